export default {
  input: process.env.OPENAPI_DOCUMENT,
  output: { path: process.env.OPENAPI_OUTPUT, module: { extension: ".js" } },
};
