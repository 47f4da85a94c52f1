// What the command line says: sizes, columns, answers in a line. Pure. Nothing that came over the wire reaches a terminal
// with its control characters.

import type { Adapter, PutAnswer, Stats, TensorEntry } from './client.ts';

export const HELP = `npx blatam: tensors by name on a Blatam server

  blatam put KEY FILE    store a safetensors file; FILE - is stdin, up to 256 MiB
      --ttl S            forget it after S seconds
      --priority N       0 to 100, kept and shown, not weighed yet (50)
      --durability D     through: on disk before the answer (default); back: soon after; none: never
      --codec C          how it is kept (lossless)
  blatam get KEY [FILE]  fetch it into FILE, or the last part of KEY with .safetensors; FILE - is stdout
      --force            replace FILE if it exists
  blatam ls [PREFIX]     what is held
  blatam rm KEY          forget it
  blatam stats           hits, misses and sizes
  blatam adapters        the adapters and their memory

  --url URL              of the server; or BLATAM_URL (http://127.0.0.1:8000)
  --key-file FILE        who you are; or BLATAM_KEY_FILE (DATA_DIR/admin-key.json, DATA_DIR being ./data)
  --json                 answers as JSON; ls: an object a line
  --help, --version

Exit: 0 done, 1 refused or failed, 2 used wrongly, 4 no such tensor.
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

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

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

/** A page of `ls`. */
export function entryRows(entries: readonly TensorEntry[]): string {
  const rows = entries.map(({ key, bytes, storedBytes, tier, tensors, dtype, shape, expiresAt }) => {
    const what = dtype !== null && shape !== null ? `${dtype} [${shape.join(', ')}]` : counted(tensors, 'tensor');
    return [key, size(bytes), size(storedBytes), tier, what, expiresAt ?? 'never'];
  });
  return columns([['KEY', 'SIZE', 'KEPT', 'TIER', 'HOLDS', 'EXPIRES'], ...rows], [1, 2]);
}

export function statsRows({ hits, bytes, ...stats }: Stats): string {
  const found = hits.hot + hits.cold;
  const asked = found + stats.misses;
  return columns([
    ['entries', `${stats.entries}`],
    ['bytes', `${size(bytes.hot)} hot, ${size(bytes.disk)} on disk`],
    ['hits', `${hits.hot} hot, ${hits.cold} cold${asked > 0 ? `, ${percent(found / asked)} of reads` : ''}`],
    ['misses', `${stats.misses}`],
    ['puts', `${stats.puts}`],
    ['deletes', `${stats.deletes}`],
    ['evictions', `${stats.evictions}`],
    ['expired', `${stats.expired}`],
    ['lost', `${stats.lost}`],
  ]);
}

export function adapterRows(adapters: readonly Adapter[]): string {
  const rows = adapters.map(({ id, name, backend = '-', software, state, memory, utilization, queue, restarts }) => [
    id,
    software ? `${name} (software)` : name,
    backend,
    state,
    `${size(memory.used)} of ${size(memory.capacity)}`,
    percent(utilization),
    `${queue}`,
    `${restarts}`,
  ]);
  return columns([['ID', 'NAME', 'BACKEND', 'STATE', 'MEMORY', 'BUSY', 'QUEUE', 'RESTARTS'], ...rows], [5, 6, 7]);
}
