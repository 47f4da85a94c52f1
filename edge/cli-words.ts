// What the command line says: sizes, columns, answers in a line. Pure. Nothing that came over the wire reaches a terminal
// with its control characters.

import type {
  Adapter,
  KvBlock,
  KvClearAnswer,
  KvExplanation,
  KvLookupAnswer,
  KvNumberedEvent,
  KvStoreAnswer,
  PutAnswer,
  Stats,
  TensorEntry,
} from './client.ts';

export const HELP = `npx blatam: tensors by name, and KV by tokens, on a Blatam server

  blatam put KEY FILE    store a safetensors file; FILE - is stdin, up to 256 MiB
      --ttl S            forget it after S seconds
      --priority N       0 to 100: below 34 it leaves adapters early, above 66 late (50)
      --durability D     through: on disk before the answer (default); back: soon after; none: never
      --codec C          how it is kept (lossless)
  blatam get KEY [FILE]  fetch it into FILE, or the last part of KEY with .safetensors; FILE - is stdout
      --force            replace FILE if it exists
  blatam ls [PREFIX]     what is held
  blatam rm KEY          forget it
  blatam kv store FILE   store the KV of a token sequence: tokens, k and v of a safetensors file; FILE - is stdin
      --model M          the model that it is of
      --salt S           share it with who names the same salt; without, your tenant has its own
      --codec-k C        how K is kept, raw (default, bit for bit) or one of docs/http.md
      --codec-v C        how V is kept
      --ttl S            forget it after S seconds
      --priority N       0 to 100 (50): the lowest leave first where room is short
      --rope THETA       K is as it was before its rotary embedding
      --rope-scale F, --rope-pairs P, --rope-dims N   and what there is to say of that
  blatam kv load TOKENS  fetch the KV of the longest held beginning; TOKENS is 1,2,3 or a file: safetensors, or text
      --model M          the model that it is of
      --salt S           the salt that it was stored with
      --dtype D          F32, F16 (default) or BF16
      --with-rope        K with its rotary embedding, where it was stored before it
      --out FILE         where to; - is stdout
      --force            replace FILE if it exists
  blatam kv lookup TOKENS   how much of them is held
      --model M, --salt S
      --explain          and why it is not more
  blatam kv pin TOKENS   keep what is held of them, whatever else comes
      --model M, --salt S
      --ttl S            for S seconds
  blatam kv unpin        let go of one pin
      --pin ID           by its id; or by TOKENS with --model M, --salt S, as they were pinned
  blatam kv clear        forget what your tenant has stored
      --model M, --salt S   only of this model, under this salt
      --prefix TOKENS    only of sequences that begin with these, from where they end on; needs --model
      --all              all of it
  blatam kv events       what happens to it, a line each, until you interrupt it
      --after N          from the event after N on; 0: from the first that is kept
  blatam stats           hits, misses and sizes; cache stats is the same
  blatam cache policy    by which policy tensors leave adapters, and what it has found out
      --strategy S       from now on: lru, lfu or adaptive
      --objective O      what adaptive makes the most of: hits, bytes or cost
  blatam backup create   back up all tensors on disk, and the database
  blatam backup list     the backups there are
  blatam backup verify ID   read every byte of one
  blatam backup drill [ID]  restore one on trial, and read every tensor; without ID the newest
  blatam backup restore ID  all tensors of all tenants become what they were
      --yes              as what was written since is gone
      --no-safety        what is there is not backed up first
      --data DIR         into a data folder whose server does not run; ID may be a path then
  blatam adapters        the adapters and their memory
  blatam erase           everything of these from every place, backups included; asks before
      --tenant T         of another tenant, or, with nothing else, all of it
      --prefix P         tensors whose keys begin with it
      --model M, --salt S   KV
      --yes              does not ask
      --out FILE         the signed receipt; --force replaces it
  blatam erase verify RECEIPT   whether a receipt is as it was signed
      --public-key K     with this key, as the server tells it
  blatam upgrade         bring the data of an instance that is not running to this version; see blatam upgrade --help
  blatam keys create NAME   a key that may no more than yours; its secret is told this once
      --scopes S,S       what it may: tensors:read and others of docs/http.md
      --prefixes P,P     only tensors whose keys begin so; --models M,M  only KV of these
      --addresses A,A    only from these: 10.0.0.0/8
      --ttl S            for S seconds
      --tenant T         for another tenant; only an operator's key may
      --out FILE         where to, as a key file; --force replaces one
  blatam keys list       the keys of your tenant; --tenant T
  blatam keys rotate KEYID   a new secret; --out FILE, --force
      --overlap S        the one so far works for S seconds more (3600)
  blatam keys revoke KEYID   for good
  blatam audit           who did what, and who was not let in, a line each
      --after N          after the entry N

  --url URL              of the server; or BLATAM_URL (http://127.0.0.1:8000)
  --key-file FILE        who you are; or BLATAM_KEY_FILE (DATA_DIR/admin-key.json, DATA_DIR being ./data)
  --json                 answers as JSON; ls: an object a line
  --help, --version

Exit: 0 done, 1 refused or failed, 2 used wrongly, 4 not held.
`;

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

export function size(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (unit < UNITS.length - 1 && Number(value.toFixed(1)) >= 1024) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;

export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** On one line, as a terminal may see it. */
export const plain = (text: string): string => text.replace(/\p{Cc}+/gu, ' ').trim();

/** Rows under one another, each column as wide as its widest cell, numbers (columns of `right`) to the right. */
export function columns(rows: readonly (readonly string[])[], right: readonly number[] = []): string {
  const cells = rows.map((row) => row.map(plain));
  const widths: number[] = [];
  for (const row of cells) for (const [at, cell] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, cell.length);
  const line = (row: string[]) =>
    row
      .map((cell, at) => (right.includes(at) ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0)))
      .join('  ')
      .trimEnd();
  return cells.map((row) => `${line(row)}\n`).join('');
}

export function putLine(key: string, answer: PutAnswer & { created: boolean }): string {
  const { bytes, tensors, storedBytes, codec, tier, adapter, expiresAt } = answer;
  const where = tier === 'hot' && adapter !== null ? `hot on ${adapter}` : tier;
  const notes = [
    answer.created ? undefined : 'replaced what was there',
    answer.deduplicated ? 'the same bytes were held already' : undefined,
    expiresAt === null ? undefined : `until ${expiresAt}`,
  ];
  const kept = `kept as ${size(storedBytes)} (${codec}, ${where})`;
  return plain(
    [`stored ${key}: ${size(bytes)} in ${counted(tensors, 'tensor')}`, kept, ...notes.filter((n) => n)].join(', '),
  );
}

/** `given` tokens of K and V, `tokenBytes` each, and what is kept of them. */
export function kvStoreLine(model: string, given: number, tokenBytes: number, answer: KvStoreAnswer): string {
  const { storedTokens, deduplicatedTokens, blocks } = answer;
  const whole = storedTokens * tokenBytes;
  const kept = blocks.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
  const share = whole > 0 ? ` (${percent(kept / whole)})` : '';
  const rest = given - storedTokens;
  const isFull = rest < (blocks[0]?.tokens ?? Number.POSITIVE_INFINITY);
  const restLine = storedTokens === 0 ? 'they fill no block' : `the last ${rest} fill no block`;
  const notes = [
    deduplicatedTokens > 0 ? `${deduplicatedTokens} of them held before` : undefined,
    rest > 0 && isFull ? restLine : undefined,
    rest > 0 && !isFull ? 'there was no room for the rest' : undefined,
  ];
  const told = `stored ${storedTokens} of ${counted(given, 'token')} for ${model}: ${size(whole)} of K and V`;
  const how = `kept as ${size(kept)}${share} in ${counted(blocks.length, 'block')}${codecsOf(blocks)}`;
  return plain([told, how, ...notes.filter((n) => n)].join(', '));
}

export function kvLookupLines(
  model: string,
  given: number,
  { matchedTokens, blocks, explain }: KvLookupAnswer,
): string {
  const kept = blocks.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
  const how = blocks.length === 0 ? '' : `: ${size(kept)} in ${counted(blocks.length, 'block')}${codecsOf(blocks)}`;
  const why = explain ? [`it ends there: ${reason(explain)}`] : [];
  return [`${matchedTokens} of ${counted(given, 'token')} are held for ${model}${how}`, ...why]
    .map((line) => `${plain(line)}\n`)
    .join('');
}

function reason(why: KvExplanation): string {
  switch (why.reason) {
    case 'diverges':
      return `token ${why.at} differs from what is held there; ${why.agreeing} of its block agree`;
    case 'evicted':
      return `the next block was evicted at ${why.when}, to make room (${why.policy})`;
    case 'expired':
      return `the next block expired at ${why.when}`;
    case 'cleared':
      return `the next block was cleared at ${why.when}`;
    case 'lost':
      return `the next block was lost with its adapter at ${why.when}`;
    case 'drained':
      return `the next block found no room when its adapter was drained at ${why.when}`;
    case 'damaged':
      return `the next block was found damaged at ${why.when}`;
    case 'other_salt':
      return `the rest was stored under another salt, or none: ${why.matchedTokens} are held there`;
    case 'other_layout':
      return `the rest was stored in another layout: ${why.matchedTokens} are held so`;
    case 'shorter_than_block':
      return why.tokens === 1 ? 'the last token fills no block' : `the last ${why.tokens} tokens fill no block`;
    case 'unknown':
      return 'nothing is known of the rest: your tenant has not stored it, or long ago';
  }
}

export function kvClearLine({ blocks, bytes, pinned, shared }: KvClearAnswer): string {
  const notes = [
    pinned > 0 ? `${pinned} of them pinned` : undefined,
    shared > 0 ? `${shared} more stay, as others have stored them too` : undefined,
  ];
  return `${[`cleared ${counted(blocks, 'block')}, ${size(bytes)}`, ...notes.filter((n) => n)].join(', ')}\n`;
}

export function kvEventLine(event: KvNumberedEvent): string {
  return `${plain(`${event.id} ${event.type} ${eventWords(event)}`)}\n`;
}

function eventWords(event: KvNumberedEvent): string {
  switch (event.type) {
    case 'BlockStored': {
      const { hashes, tokens, model, tier, adapter } = event;
      return `${counted(tokens, 'token')} of ${model}, ${tier} on ${adapter ?? 'no adapter'}: ${hashes.join(' ')}`;
    }
    case 'BlockRemoved':
      return `${event.hash} ${event.cause}`;
    case 'BlockMoved':
      return `${event.hash} ${event.tier} on ${event.adapter ?? 'no adapter'}`;
    case 'AllBlocksCleared':
      return 'all that your tenant had stored';
    case 'gap':
      return `what came after ${event.after} is not kept up to ${event.next - 1}: ask anew what is held`;
  }
}

/** How many blocks are kept how. */
function codecsOf(blocks: readonly KvBlock[]): string {
  const counts = new Map<string, number>();
  for (const { codecK, codecV } of blocks) {
    const name = codecK === codecV ? codecK : `${codecK}/${codecV}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts.size === 0 ? '' : ` (${[...counts].map(([name, count]) => `${count} ${name}`).join(', ')})`;
}

/** A page of `ls`. */
export function entryRows(entries: readonly TensorEntry[]): string {
  const rows = entries.map(({ key, bytes, storedBytes, tier, tensors, dtype, shape, expiresAt }) => {
    const what = dtype !== null && shape !== null ? `${dtype} [${shape.join(', ')}]` : counted(tensors, 'tensor');
    return [key, size(bytes), size(storedBytes), tier, what, expiresAt ?? 'never'];
  });
  return columns([['KEY', 'SIZE', 'KEPT', 'TIER', 'HOLDS', 'EXPIRES'], ...rows], [1, 2]);
}

export function statsRows({ hits, bytes, kv, ...stats }: Stats): string {
  const found = hits.hot + hits.cold;
  const asked = found + stats.misses;
  const { evictions, expired, lost } = stats;
  const left = Object.entries({ evictions, expired, lost }).filter(([, count]) => count !== undefined);
  const kvLeft = kv.evictions === undefined ? '' : `, ${kv.evictions} evicted, ${kv.lost} lost`;
  return columns([
    ...(stats.of === 'tenant'
      ? [['of', "your tenant; keys with metrics:read or cache:admin are told all tenants'"]]
      : []),
    ['entries', `${stats.entries}`],
    ['bytes', `${size(bytes.hot)} hot, ${size(bytes.disk)} on disk`],
    ['hits', `${hits.hot} hot, ${hits.cold} cold${asked > 0 ? `, ${percent(found / asked)} of reads` : ''}`],
    ['misses', `${stats.misses}`],
    ['puts', `${stats.puts}`],
    ['deletes', `${stats.deletes}`],
    ...left.map(([name, count]) => [name, `${count}`]),
    ['kv', `${counted(kv.blocks, 'block')}, ${size(kv.bytes)}${kvLeft}`],
    ['kv tokens', `${kv.tokens.matched} of ${kv.tokens.asked} asked for were held`],
  ]);
}

export function adapterRows(adapters: readonly Adapter[]): string {
  const rows = adapters.map(({ id, name, backend = '-', software, state, memory, utilization, queue, restarts }) => [
    id,
    software ? `${name} (software)` : name,
    backend,
    state,
    `${size(memory.used)} of ${size(memory.capacity)}`,
    utilization === undefined ? '-' : percent(utilization),
    `${queue ?? '-'}`,
    `${restarts}`,
  ]);
  return columns([['ID', 'NAME', 'BACKEND', 'STATE', 'MEMORY', 'BUSY', 'QUEUE', 'RESTARTS'], ...rows], [5, 6, 7]);
}
