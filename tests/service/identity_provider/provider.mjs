// A school's identity provider: panva's oidc-provider with a form to sign in and a door for tests.
//
// It prints its issuer, and reads orders as JSON lines from standard input: {"rotate": true} makes a
// new key, {"shiftSeconds": -1200} sets the clock, {"logoutUri": "..."} where sign-outs are told, with
// {"logoutBySession": false} by the person alone. Each order is answered by "ok".
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import Provider from "oidc-provider";

const { accounts, clients } = JSON.parse(process.argv[2]);
const settings = { shiftSeconds: 0, logoutUri: undefined, logoutBySession: true };
const realNow = Date.now;
Date.now = () => realNow() + settings.shiftSeconds * 1000;
const CALLBACK = /^http:\/\/127\.0\.0\.1:\d+\/sign-in\/oidc\/callback$/;
const AFTER_SIGN_OUT = /^http:\/\/127\.0\.0\.1:\d+\/console$/;

function newKey() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg: "RS256" };
}

function newProvider(issuer) {
  const provider = new Provider(issuer, {
    clients,
    claims: { openid: ["sub"], profile: ["preferred_username"], email: ["email", "email_verified"], roles: ["groups"] },
    scopes: ["openid", "profile", "email", "roles"],
    features: { devInteractions: { enabled: false }, backchannelLogout: { enabled: true } },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    // Its own dispatcher refuses loopback, where the server under test is.
    fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
    jwks: { keys: [newKey()] },
    pkce: { required: () => true },
    ttl: { IdToken: 600 },
    findAccount: (_, id) =>
      id in accounts ? { accountId: id, claims: () => ({ sub: id, ...accounts[id] }) } : undefined,
    // The school has agreed for its people: no page asks them.
    async loadExistingGrant(ctx) {
      const { client, session } = ctx.oidc;
      const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
      grant.addOIDCScope("openid profile email roles");
      await grant.save();
      return grant;
    },
  });
  // The server under test listens on a free port, which no configuration can know.
  provider.Client.prototype.redirectUriAllowed = (uri) => CALLBACK.test(uri);
  provider.Client.prototype.postLogoutRedirectUriAllowed = (uri) => AFTER_SIGN_OUT.test(uri);
  const { prototype } = provider.Client;
  const define = (name, get) => Object.defineProperty(prototype, name, { get, set() {} });
  define("backchannelLogoutUri", () => settings.logoutUri);
  define("backchannelLogoutSessionRequired", () => settings.logoutBySession);
  return provider;
}

const FORM = `<!doctype html><html lang="en"><title>School</title><h1>The school's sign-in</h1>
<form method="post"><label>Account <input name="account" required></label>
<button>Sign in</button></form>
<form method="post"><button name="refuse" value="1">Cancel</button></form></html>`;

async function interact(provider, request, response) {
  if (request.method !== "POST") {
    response.setHeader("content-type", "text/html");
    return response.end(FORM);
  }
  let body = "";
  for await (const part of request) body += part;
  const form = new URLSearchParams(body);
  const result = form.has("refuse")
    ? { error: "access_denied", error_description: "cancelled" }
    : { login: { accountId: form.get("account") } };
  return provider.interactionFinished(request, response, result);
}

let provider;
const server = createServer((request, response) => {
  if (!request.url.startsWith("/interaction/")) return provider.callback()(request, response);
  interact(provider, request, response).catch((error) => {
    response.statusCode = 500;
    response.end(String(error));
  });
});
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  provider = newProvider(issuer);
  console.log(issuer);
  createInterface({ input: process.stdin })
    .on("line", (line) => {
      const { rotate, ...changed } = JSON.parse(line);
      Object.assign(settings, changed);
      if (rotate) provider = newProvider(issuer);
      console.log("ok");
    })
    .on("close", () => process.exit(0));
});
