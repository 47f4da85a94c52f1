// IP addresses and ranges of them (CIDR), as numbers. Pure: runs on every runtime.
// Strict, as they decide who is let in: what has two readings (010.0.0.1, 1.2.3, a range with bits beyond its length) is none.
// An IPv4 address that is written as IPv6 (::ffff:10.0.0.1) is the IPv4 address: a list of either kind finds it. IPv4 and IPv6 are
// apart otherwise: ::/0 holds no IPv4 address. A zone (fe80::1%eth0) is dropped: it names an interface of this machine.

export interface Address {
  readonly family: 4 | 6;
  readonly value: bigint;
}

export interface Range extends Address {
  /** Bits that may differ. */
  readonly free: number;
}

const BITS = { 4: 32, 6: 128 } as const;
const MAPPED = 0xffffn;
const OCTET = /^(?:0|[1-9]\d{0,2})$/;
const GROUP = /^[0-9a-f]{1,4}$/i;
const GROUPS = 8;
const LENGTH = /^(?:0|[1-9]\d{0,2})$/;
const TEXT_MAX = 80;
/** What one subscriber is given of IPv6: limits count by it. */
const SUBSCRIBER_BITS = 64n;

export function parseAddress(text: string): Address | undefined {
  if (text.length > TEXT_MAX) return undefined;
  const four = parse4(text);
  if (four !== undefined) return { family: 4, value: four };
  const six = parse6(text.split('%', 1)[0] ?? '');
  if (six === undefined) return undefined;
  return six >> 32n === MAPPED ? { family: 4, value: six & 0xffff_ffffn } : { family: 6, value: six };
}

/** An address alone is a range of one. */
export function parseRange(text: string): Range | undefined {
  const [first = '', length, ...more] = text.split('/');
  const address = first.includes('%') ? undefined : parseAddress(first);
  if (address === undefined || more.length > 0) return undefined;
  // As it was written: ::ffff:10.0.0.0/104 is 10.0.0.0/8.
  const offset = address.family === 4 && first.includes(':') ? BITS[6] - BITS[4] : 0;
  const bits = length === undefined ? BITS[address.family] : LENGTH.test(length) ? Number(length) - offset : -1;
  const free = BITS[address.family] - bits;
  if (bits < 0 || free < 0) return undefined;
  return address.value & ((1n << BigInt(free)) - 1n) ? undefined : { ...address, free };
}

/** As it is shown; an IPv6 address in full groups. */
export function textOf({ family, value }: Address): string {
  const [count, bits, base, between] = family === 4 ? ([4, 8, 10, '.'] as const) : ([8, 16, 16, ':'] as const);
  const parts = Array.from({ length: count }, (_, at) =>
    BigInt.asUintN(bits, value >> BigInt(bits * (count - 1 - at))),
  );
  return parts.map((part) => part.toString(base)).join(between);
}

export const contains = (range: Range, { family, value }: Address): boolean =>
  range.family === family && (range.value ^ value) >> BigInt(range.free) === 0n;

export const isWithin = (inner: Range, outer: Range): boolean => inner.free <= outer.free && contains(outer, inner);

/** Who is counted together: an IPv4 address, or the IPv6 network of one subscriber (/64). */
export const subscriberOf = ({ family, value }: Address): string =>
  family === 4 ? `4:${value.toString(36)}` : `6:${(value >> SUBSCRIBER_BITS).toString(36)}`;

function parse4(text: string): bigint | undefined {
  const octets = text.split('.');
  if (octets.length !== 4) return undefined;
  let value = 0n;
  for (const octet of octets) {
    if (!OCTET.test(octet) || Number(octet) > 255) return undefined;
    value = (value << 8n) | BigInt(octet);
  }
  return value;
}

function parse6(text: string): bigint | undefined {
  const [head = '', tail, ...more] = text.split('::');
  if (more.length > 0) return undefined;
  const before = groupsOf(head, tail === undefined);
  const after = tail === undefined ? [] : groupsOf(tail, true);
  if (before === undefined || after === undefined) return undefined;
  const missing = GROUPS - before.length - after.length;
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined;
  return [...before, ...Array<number>(missing).fill(0), ...after].reduce(
    (all, group) => (all << 16n) | BigInt(group),
    0n,
  );
}

/** 16 bits each; the last of an address may be an IPv4 address, which makes two. */
function groupsOf(text: string, isLast: boolean): number[] | undefined {
  if (text === '') return [];
  const parts = text.split(':');
  const groups: number[] = [];
  for (const [at, part] of parts.entries()) {
    const four = isLast && at === parts.length - 1 && part.includes('.') ? parse4(part) : undefined;
    if (four !== undefined) groups.push(Number(four >> 16n), Number(four & 0xffffn));
    else if (GROUP.test(part)) groups.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return groups;
}
