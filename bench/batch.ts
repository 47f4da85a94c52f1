// Many small tensors: 256 of 4 KiB put and fetched by one batch, beside 256 single requests one after the other, over the same
// connection to one server. Requests are signed before the clock runs, so what is compared is what the server does and what
// the way there and back costs. Rivals take turns within each round. Every file is new, so that no payload is deduplicated.
// All that is read is compared, and in the end what each way has put is read by the other; else there is no result.
// `x single` is the median of single requests by ours: more is better.
import { createHash } from 'node:crypto';
import { BATCH, frameHead, getAnswersSchema, openFrame } from '../core/contract/batch.ts';
import { joinParts, tensorParts } from '../core/contract/tensors.ts';
import { type BlatamClient, openBlatamClient, readAdapters, type SignedRequest, startBlatam } from './lib/blatam.ts';
import { temporaryFolderIsMemory } from './lib/machine.ts';
import { type Report, type RunOptions, type Table, WrongAnswer } from './lib/report.ts';
import { takeTurns } from './lib/rounds.ts';
import { median, percentile } from './lib/statistics.ts';

export const title = '256 tensors of 4 KiB by one batch, beside as many single requests';

const COUNT = 256;
const TENSOR_BYTES = 4096;
const CONTESTS = [
  { name: 'PUT, durability=none', durability: 'none' },
  { name: 'PUT, durability=through', durability: 'through' },
  { name: 'GET', durability: undefined },
] as const;

type Way = 'batch' | 'single';
type Files = readonly Uint8Array[];

export async function run({ quick, log }: RunOptions): Promise<Report> {
  await using opened = new AsyncDisposableStack();
  const blatam = await startBlatam();
  opened.defer(blatam.close);
  const client = await openBlatamClient(blatam);
  opened.defer(client.close);
  const adapters = await readAdapters(client);
  const tables: Table[] = [];
  for (const { name, durability } of CONTESTS) {
    log(`${name} …`);
    const measured = await takeTurns({
      rounds: quick ? 5 : 20,
      begin: filesOfRound,
      rivals: (['batch', 'single'] as const).map((way) => ({
        name: way,
        pids: [blatam.pid],
        run: async (files: Files) => {
          if (durability) return putAll(client, way, files, durability);
          await putAll(client, way, files, 'none');
          return getAll(client, way, files);
        },
      })),
    });
    tables.push(tell(name, measured));
  }
  const last = filesOfRound();
  await putAll(client, 'batch', last, 'none');
  await getAll(client, 'single', last, 'batch');
  await putAll(client, 'single', last, 'none');
  await getAll(client, 'batch', last, 'single');
  return {
    tables,
    checks: [],
    notes: [
      `Blatam's adapter: ${adapters.map((each) => each.name).join(', ') || 'none'}.`,
      ...(temporaryFolderIsMemory()
        ? ['The temporary folder is in memory, where fsync is free: set TMPDIR to a disk for durable numbers.']
        : []),
    ],
  };
}

let serial = 0;
function filesOfRound(): Files {
  return Array.from({ length: COUNT }, () => {
    const data = new Uint8Array(TENSOR_BYTES).fill(serial);
    new DataView(data.buffer).setUint32(0, serial++);
    return joinParts(tensorParts([{ name: 'x', dtype: 'U8', shape: [TENSOR_BYTES], data }]));
  });
}

const keyOf = (way: Way, i: number): string => `bench/${way}/${i}`;
const digestOf = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();
const signed = (client: BlatamClient, method: string, path: string, bytes?: Uint8Array, type?: string) =>
  client.sign(method, path, bytes && { bytes, digest: digestOf(bytes), ...(type === undefined ? {} : { type }) });

/** One after the other; the milliseconds of all. */
async function sendAll(client: BlatamClient, requests: readonly SignedRequest[], files: Files): Promise<number> {
  let total = 0;
  for (const [i, request] of requests.entries()) {
    const { ms, body } = await client.send(request, 'keep');
    total += ms;
    if (files[i] && Buffer.compare(body ?? new Uint8Array(), files[i]) !== 0)
      throw new WrongAnswer(`what was read of the tensor ${i} is not what was put`);
  }
  return total;
}

async function putAll(client: BlatamClient, way: Way, files: Files, durability: string): Promise<number> {
  if (way === 'single') {
    const path = (i: number) => `/v1/tensors/${keyOf(way, i)}?durability=${durability}`;
    return sendAll(client, await Promise.all(files.map((file, i) => signed(client, 'PUT', path(i), file))), []);
  }
  const put = files.map(({ length }, i) => ({ key: keyOf(way, i), bytes: length, durability }));
  const frame = joinParts([frameHead({ put }), ...files]);
  const { ms, body } = await client.send(await signed(client, 'POST', '/v1/tensors:batch', frame, BATCH), 'keep');
  const { entries } = JSON.parse(Buffer.from(body ?? []).toString()) as { entries: { status: number }[] };
  if (entries.length !== COUNT || entries.some(({ status }) => status > 201))
    throw new WrongAnswer('a batch stored less than it was given');
  return ms;
}

/** `from`: by which way it was put. */
async function getAll(client: BlatamClient, way: Way, files: Files, from: Way = way): Promise<number> {
  const keys = files.map((_, i) => keyOf(from, i));
  if (way === 'single')
    return sendAll(client, await Promise.all(keys.map((key) => signed(client, 'GET', `/v1/tensors/${key}`))), files);
  const asked = Buffer.from(JSON.stringify({ get: keys }));
  const request = await signed(client, 'POST', '/v1/tensors:batch', asked, 'application/json');
  const { ms, body } = await client.send(request, 'keep');
  const { header, files: found } = openFrame(body ?? new Uint8Array());
  const { entries } = getAnswersSchema.parse(header);
  if (entries.some((one) => 'code' in one || one.cache !== 'hot') || Buffer.compare(found, joinParts(files)) !== 0)
    throw new WrongAnswer('a batch brought back something else than was put');
  return ms;
}

function tell(
  name: string,
  measured: readonly { name: string; ms: readonly number[]; cpuMs: readonly (number | null)[] }[],
): Table {
  const single = median(measured.find((each) => each.name === 'single')?.ms ?? []);
  return {
    title: `256 × 4 KiB, ${name}`,
    columns: [
      { name: 'median', unit: 'ms' },
      { name: 'p25', unit: 'ms' },
      { name: 'p75', unit: 'ms' },
      { name: 'each', unit: 'us' },
      { name: 'x single', unit: '' },
    ],
    rows: measured.map(({ name, ms }) => {
      const typical = median(ms);
      const spread = [percentile(ms, 0.25), percentile(ms, 0.75)];
      return {
        name,
        values: [typical, ...spread, (1000 * typical) / COUNT, name === 'batch' ? single / typical : null],
      };
    }),
  };
}
