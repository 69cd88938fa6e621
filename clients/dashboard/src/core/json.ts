/** A value of the wire as JSON, with bytes in their JSON form, as other peers see them. */
export function jsonOf(value: unknown, indent?: number): string {
  return JSON.stringify(
    value,
    (_key, part: unknown) =>
      part instanceof Uint8Array ? { $bytes: btoa(Array.from(part, (byte) => String.fromCodePoint(byte)).join("")) } : part,
    indent,
  );
}
