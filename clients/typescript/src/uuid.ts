let last = 0;

/**
 * Return a UUIDv7 (RFC 9562): ids of one page sort in the order in which they were made, also
 * within a millisecond and when the clock goes back. Works where `crypto.randomUUID` does not: on
 * pages without TLS.
 */
export function uuidv7(): string {
  last = Math.max(last + 1, Date.now());
  const bytes = crypto.getRandomValues(new Uint8Array(10));
  const random = Array.from(bytes, (byte) => (byte + 256).toString(16).slice(1)).join("");
  return (last.toString(16).padStart(12, "0") + random).replace(
    /(.{8})(.{4}).(...).(...)/,
    "$1-$2-7$3-8$4-",
  );
}
