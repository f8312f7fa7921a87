const RANDOM_BYTES = 10;
let last = 0;
let used = 0;
/** Random bytes of 64 ids, since a call for a few takes 30 µs. */
let pool = new Uint8Array();

/**
 * Return a UUIDv7 (RFC 9562): ids of one page sort in the order in which they were made, also
 * within a millisecond and when the clock goes back. Works where `crypto.randomUUID` does not: on
 * pages without TLS.
 */
export function uuidv7(): string {
  last = Math.max(last + 1, Date.now());
  if (used == pool.length) pool = crypto.getRandomValues(new Uint8Array(64 * RANDOM_BYTES)), used = 0;
  let hex = last.toString(16).padStart(12, "0") + 7;
  // A plain loop: callbacks were half of what `enqueue` costs.
  for (const byte of pool.subarray(used, (used += RANDOM_BYTES))) hex += (byte + 256).toString(16).slice(1);
  return hex.replace(/(.{8})(.{4})(.{4}).(.{3})(.{12}).*/, "$1-$2-$3-8$4-$5");
}
