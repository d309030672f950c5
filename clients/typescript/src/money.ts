/**
 * Credits or USD as an exact integer of 10^-9, the server's own unit, to add up without rounding:
 * `nano(0.1) + nano(0.2) === nano(0.3)`. Exact for what the server sends: up to nine decimal
 * places, 15 digits in all.
 */
export function nano(amount: number): bigint {
  if (!Number.isFinite(amount)) throw new RangeError(`${amount} is no amount`);
  const [whole = "0", part = ""] = Math.abs(amount).toFixed(9).split(".");
  const found = BigInt(whole + part);
  return amount < 0 ? -found : found;
}
