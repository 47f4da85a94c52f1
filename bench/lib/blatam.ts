// Ourselves, as the benchmark runs us: edge and core as by `npm start`, on free ports with a fresh data folder, and a client that signs
// beforehand and sends raw. Signing and hashing are no part of an exchange's time; everything the server does is.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { nodeCrypto } from '../../core/contract/crypto-node.ts';
import { SAFETENSORS } from '../../core/contract/messages.ts';
import { signRequest } from '../../core/contract/signatures.ts';
import { startChild } from './child.ts';
import { type HttpHead, httpDialect, requestHead } from './http.ts';
import { WrongAnswer } from './report.ts';
import { type Answer, openWire } from './wire.ts';

const MAIN = fileURLToPath(new URL('../../core/main.ts', import.meta.url));
const PACKAGE = new URL('../../package.json', import.meta.url);
const LISTENS = /edge on http:\/\/127\.0\.0\.1:(\d+), core on http:\/\/127\.0\.0\.1:(\d+)/;
/** The adapter clears its memory in the background after it is ready. */
const SETTLE_MS = 2000;

export interface Blatam {
  readonly edgePort: number;
  readonly corePort: number;
  readonly pid: number;
  readonly dataDir: string;
  readonly key: { readonly keyid: string; readonly secret: Uint8Array };
  close(): Promise<void>;
}

/** Settled, not only ready. `env` goes over what is inherited; ports and folder are chosen here. */
export async function startBlatam({ env = {} }: { env?: Readonly<Record<string, string>> } = {}): Promise<Blatam> {
  const child = await startChild({
    name: 'blatam',
    command: process.execPath,
    words: () => [...startFlags(), MAIN],
    environment: (folder) => ({
      ...process.env,
      ...env,
      HOST: '127.0.0.1',
      EDGE_PORT: '0',
      CORE_PORT: '0',
      DATA_DIR: folder,
    }),
    ready: /ready in /,
  });
  await sleep(SETTLE_MS);
  const [, edgePort, corePort] = LISTENS.exec(child.output) ?? [];
  const { keyid, secret } = JSON.parse(readFileSync(join(child.folder, 'admin-key.json'), 'utf8')) as {
    keyid: string;
    secret: string;
  };
  return {
    edgePort: Number(edgePort),
    corePort: Number(corePort),
    pid: child.pid,
    dataDir: child.folder,
    key: { keyid, secret: Buffer.from(secret, 'base64') },
    close: child.close,
  };
}

/** What `npm start` gives to Node before the file: what is measured is what people run. */
function startFlags(): string[] {
  const { scripts } = JSON.parse(readFileSync(PACKAGE, 'utf8')) as { scripts?: { start?: string } };
  const [, flags] = /\bnode((?: --\S+)*) core\/main\.ts$/.exec(scripts?.start ?? '') ?? [];
  if (flags === undefined) throw new Error('package.json has no start script of the form: node [--flags] core/main.ts');
  return flags.split(' ').filter((flag) => flag !== '');
}

export interface SignedRequest {
  readonly parts: readonly Uint8Array[];
}

export interface SentBody {
  readonly bytes: Uint8Array;
  readonly digest: Uint8Array;
  /** Default: safetensors. */
  readonly type?: string;
}

export interface BlatamClient {
  sign(method: string, path: string, body?: SentBody): Promise<SignedRequest>;
  /** Throws `WrongAnswer` unless the status is 2xx. */
  send(request: SignedRequest, body: 'keep' | 'count'): Promise<Answer<HttpHead> & { readonly ms: number }>;
  close(): void;
}

export async function openBlatamClient({ edgePort, key }: Blatam): Promise<BlatamClient> {
  const wire = await openWire(edgePort, httpDialect);
  return {
    async sign(method, path, body) {
      const digest = body ? { digest: body.digest } : {};
      const signed = await signRequest({ method, url: path, ...key, ...digest }, nodeCrypto);
      const described = body
        ? { 'content-type': body.type ?? SAFETENSORS, 'content-length': String(body.bytes.length) }
        : {};
      const head = requestHead(method, path, { host: `127.0.0.1:${edgePort}`, ...described, ...signed });
      return { parts: body ? [head, body.bytes] : [head] };
    },
    async send({ parts }, keeping) {
      const answer = await wire.exchange(parts, keeping);
      const { status } = answer.head;
      if (status >= 200 && status < 300) return answer;
      throw new WrongAnswer(
        `Blatam answered ${status}: ${Buffer.from(answer.body ?? [])
          .toString()
          .slice(0, 500)}`,
      );
    },
    close: wire.close,
  };
}

/** Adapters that the core uses. */
export async function readAdapters(client: BlatamClient): Promise<readonly { name: string; pid?: number }[]> {
  const { body } = await client.send(await client.sign('GET', '/v1/adapters'), 'keep');
  return (JSON.parse(Buffer.from(body ?? []).toString()) as { adapters: { name: string; pid?: number }[] }).adapters;
}
