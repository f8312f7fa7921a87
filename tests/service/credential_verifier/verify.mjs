// Verifies credentials with Digital Bazaar's packages, which share no code with Homeroom.
// Standard input: {credentials: [...], documents: {url: document}, now}; each result is one line.
// Documents are what the issuer publishes; the contexts come from the packages and from `documents`.
import { readFileSync } from "node:fs";
import { verifyCredential } from "@digitalbazaar/vc";
import { DataIntegrityProof } from "@digitalbazaar/data-integrity";
import { cryptosuite } from "@digitalbazaar/eddsa-rdfc-2022-cryptosuite";
import { checkStatus } from "@digitalbazaar/vc-bitstring-status-list";
import { named } from "@digitalbazaar/credentials-context";

const { credentials, documents, now } = JSON.parse(readFileSync(0, "utf-8"));
const v2 = named.get("v2");
const known = { ...documents, [v2.id]: v2.context };
const suite = new DataIntegrityProof({ cryptosuite });

async function documentLoader(url) {
  if (!(url in known)) throw new Error(`nothing is published at ${url}`);
  return { contextUrl: null, documentUrl: url, document: known[url] };
}

for (const credential of credentials) {
  const result = await verifyCredential({
    credential,
    suite,
    documentLoader,
    now: new Date(now),
    checkStatus: (options) =>
      checkStatus({ ...options, suite, documentLoader, verifyBitstringStatusListCredential: true }),
  });
  const errors = result.error?.errors ?? (result.error ? [result.error] : []);
  console.log(
    JSON.stringify({
      verified: result.verified,
      revoked: result.statusResult?.results.map(({ status }) => status) ?? [],
      errors: errors.map(({ message }) => message),
    }),
  );
}
