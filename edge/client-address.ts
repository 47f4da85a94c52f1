// Whose address a request comes from. Pure. It is that of the connection; and where that is a proxy of a trusted network, what this
// proxy says, from the right: each trusted one vouches for the one before it, and the first that is not trusted is the caller. What stands
// further left anybody may have written. One field is read, the one that the proxies write (EDGE_PROXY_FIELD): a proxy passes on
// the other as it came. An entry that is no address (unknown, _hidden, or malformed) leaves it unknown: then nobody is let in who is looked for in a list.
import { type Address, contains, parseAddress, type Range } from '../core/contract/addresses.ts';
import { problem } from '../core/contract/problems.ts';

export const PROXY_FIELDS = ['x-forwarded-for', 'forwarded'] as const;
export type ProxyField = (typeof PROXY_FIELDS)[number];

export interface AddressRules {
  /** Networks whose proxies are believed. */
  readonly proxies: readonly Range[];
  readonly field: ProxyField;
  /** Empty: everybody. */
  readonly allow: readonly Range[];
  /** Goes before `allow`. */
  readonly deny: readonly Range[];
}

const HOPS_MAX = 32;
const FIELD_MAX = 8192;

/** `peer` is the address of the connection. */
export function clientAddress({ proxies, field }: AddressRules, peer: string | undefined, headers: Headers) {
  const isTrusted = (address: Address) => proxies.some((range) => contains(range, address));
  let client = parseAddress(peer ?? '');
  if (client === undefined || proxies.length === 0 || !isTrusted(client)) return client;
  const said = headers.get(field);
  if (said === null) return client;
  const hops =
    field === 'forwarded'
      ? forwardedHops(said)
      : said
          .slice(-FIELD_MAX)
          .split(',')
          .map((hop) => hop.trim());
  // However much somebody writes, the end of the field is the proxies'; where it begins in the middle, that is no hop.
  if (hops && said.length > FIELD_MAX) hops[0] = '';
  for (const hop of hops?.slice(-HOPS_MAX).reverse() ?? ['']) {
    client = nodeAddress(hop);
    if (client === undefined || !isTrusted(client)) return client;
  }
  // Trusted all the way: the first of them, if there is no more to read.
  return hops && hops.length > HOPS_MAX ? undefined : client;
}

/** Refuses who is denied, who is not among the allowed, and where there is a list, who is not known. */
export function assertAllowed({ allow, deny }: AddressRules, address: Address | undefined): void {
  if (allow.length === 0 && deny.length === 0) return;
  const isIn = (ranges: readonly Range[]) => address !== undefined && ranges.some((range) => contains(range, address));
  if (address === undefined || isIn(deny) || (allow.length > 0 && !isIn(allow)))
    throw problem('address_refused', 'Nobody is let in from this address.');
}

/** With or without a port: 10.0.0.1:80, [::1]:80, ::1. */
function nodeAddress(text: string): Address | undefined {
  const bracketed = /^\[([^\]]*)\](?::\d{1,5})?$/.exec(text);
  if (bracketed) return bracketed[1]?.includes(':') ? parseAddress(bracketed[1]) : undefined;
  const [, four] = /^([\d.]+):\d{1,5}$/.exec(text) ?? [];
  return parseAddress(four ?? text);
}

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const PAIR = new RegExp(`[ \\t]*(${TOKEN})=(?:(${TOKEN})|"((?:[^"\\\\]|\\\\.)*)")[ \\t]*([;,]|$)`, 'y');

/** The `for` of each element of a Forwarded field (RFC 7239), empty where it has none; undefined if it cannot be read. */
function forwardedHops(text: string): string[] | undefined {
  if (text.length > FIELD_MAX) return undefined;
  const hops: string[] = [];
  let hop: string | undefined;
  PAIR.lastIndex = 0;
  for (;;) {
    const [, name, token, quoted, end] = PAIR.exec(text) ?? [];
    if (name === undefined) return undefined;
    if (name.toLowerCase() === 'for') {
      if (hop !== undefined) return undefined;
      hop = token ?? quoted?.replace(/\\(.)/g, '$1') ?? '';
    }
    if (end === ';') continue;
    hops.push(hop ?? '');
    hop = undefined;
    if (end === '') return hops;
  }
}
