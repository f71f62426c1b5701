/** Exact decimals as whole picounits (10^-12), for seconds and US dollars that upstreams report. */

const PLACES = 12;
const UNIT = 10n ** BigInt(PLACES);
const MOST = 10n ** 9n * UNIT;
/** Beyond this, no exponent can give an amount that counts. */
const MAX_EXPONENT = 30;

/**
 * The picounits of an amount from 0 to 10^9, as the upstream wrote it, rounded half to even at `places` places.
 *
 * Undefined if it is no usable number.
 */
export function picounits(value: unknown, places: number): bigint | undefined {
  if (typeof value !== "number" && typeof value !== "string") return undefined;
  const match = /^\+?(\d{1,30})(?:\.(\d{0,60}))?(?:e([+-]?\d{1,3}))?$/i.exec(String(value).trim());
  if (match === null) return undefined;
  const fraction = match[2] ?? "";
  const exponent = Number(match[3] ?? 0);
  if (Math.abs(exponent) > MAX_EXPONENT) return undefined;
  const rounded = scaled(BigInt(`${match[1]}${fraction}`), exponent - fraction.length + places);
  const amount = rounded * 10n ** BigInt(PLACES - places);
  return amount <= MOST ? amount : undefined;
}

/** The amount of `ticks` with so many of them in a unit; they divide picounits. */
export function fromTicks(ticks: number, perUnit: bigint): bigint {
  return BigInt(ticks) * (UNIT / perUnit);
}

/** An amount as text without an exponent, such as `"12.5"`. */
export function decimalText(amount: bigint): string {
  const fraction = String(amount % UNIT)
    .padStart(PLACES, "0")
    .replace(/0+$/, "");
  const whole = String(amount / UNIT);
  return fraction === "" ? whole : `${whole}.${fraction}`;
}

/** `digits` times ten to the `power`, rounded half to even. */
function scaled(digits: bigint, power: number): bigint {
  if (power >= 0) return digits * 10n ** BigInt(power);
  const divisor = 10n ** BigInt(-power);
  const [whole, rest] = [digits / divisor, digits % divisor];
  const isUp = rest * 2n > divisor || (rest * 2n === divisor && whole % 2n === 1n);
  return isUp ? whole + 1n : whole;
}
