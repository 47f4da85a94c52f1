// `blatam erase`: everything of a tenant, a model, a salt or a prefix of keys, from every place, backups included. It asks before, as
// there is no way back, and waits for the receipt. `blatam erase verify RECEIPT` says whether a receipt is as it was signed.

import { readFile, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { erasureBodySchema, isGenuine, type SignedReceipt, signedReceiptSchema } from '../core/contract/erasure.ts';
import { type Call, type Io, json, usage } from './cli-call.ts';
import { assertFree, Failure } from './cli-files.ts';
import { columns } from './cli-words.ts';
import type { Client } from './client.ts';

const ASKED_AGAIN_MS = 500;
const ANSWER_CHARS_MAX = 100;

export async function erase(call: Call): Promise<void> {
  const [word, path] = call.words;
  if (word !== undefined)
    return word === 'verify' ? verify(call, path) : Promise.reject(usage(`erase takes no ${word}.`));
  const { connect, options, io } = call;
  const { tenant, model, salt, prefix, out, force = false, yes = false } = options;
  const asked = erasureBodySchema.safeParse({ tenant, model, salt, prefix });
  if (!asked.success) {
    const [issue] = asked.error.issues;
    throw usage(`${[issue?.path.join('.'), issue?.message].filter((part) => part).join(': ')}.`);
  }
  if (out !== undefined) await assertFree(out, force);
  if (!yes) await confirm(io, asked.data);
  const client = await connect();
  const { id } = await client.erasures.begin(asked.data, { wait: false });
  const signed = await receiptOf(client, id, io);
  if (out !== undefined)
    await writeFile(out, `${JSON.stringify(signed, undefined, 2)}\n`, { flag: force ? 'w' : 'wx' });
  io.stdout.write(options.json ? json(signed) : receiptRows(signed));
}

async function confirm({ stderr, stdin }: Io, what: Readonly<Record<string, string | undefined>>): Promise<void> {
  const told = Object.entries(what).map(([name, value]) => `${name} ${value}`);
  stderr.write(`Erase all of ${told.join(', ')}, everywhere, backups included? There is no way back. Type erase: `);
  let answer = '';
  for await (const chunk of stdin) {
    answer += Buffer.from(chunk).toString();
    if (answer.includes('\n') || answer.length > ANSWER_CHARS_MAX) break;
  }
  if (answer.trim() !== 'erase') throw new Failure('nothing was erased.');
}

async function receiptOf(client: Client, id: string, { signal }: Io): Promise<SignedReceipt> {
  for (;;) {
    const { state, why, signed } = await client.erasures.find(id);
    if (signed) return signed;
    if (state === 'failed')
      throw new Failure(`erasure ${id} is not finished, the server's next start goes on with it: ${why}`);
    await sleep(ASKED_AGAIN_MS, undefined, { signal });
  }
}

function receiptRows({ receipt }: SignedReceipt): string {
  const rows = Object.entries(receipt.places).map(([place, counts]) => {
    const told = Object.entries(counts).map(([name, count]) => `${count} ${name}`);
    return [place, told.join(', ') || 'not meant'];
  });
  return `erased; the receipt is ${receipt.id}, of ${receipt.doneAt}\n${columns(rows)}`;
}

async function verify({ options, io }: Call, path: string | undefined): Promise<void> {
  if (path === undefined) throw usage('erase verify needs RECEIPT, a file.');
  const found = signedOf(await readFile(path, 'utf8'));
  if (!found) throw new Failure(`${path} is no receipt.`);
  const trusted = options['public-key'];
  if (!(await isGenuine(found, trusted)))
    throw new Failure(
      `${path} is NOT genuine: it was changed, or signed with ${trusted === undefined ? 'another key than it brings' : 'another key'}.`,
    );
  const by = trusted === undefined ? `the key that it brings: compare it with GET /v1/erasures/key` : 'that key';
  io.stdout.write(
    options.json
      ? json({ genuine: true, ...found.receipt })
      : `genuine, by ${by} (${found.publicKey})\n${receiptRows(found)}`,
  );
}

/** A receipt as it is kept, or an answer of the server with one in it. */
function signedOf(text: string): SignedReceipt | undefined {
  try {
    const value = JSON.parse(text) as { signed?: unknown };
    return signedReceiptSchema.safeParse(value.signed ?? value).data;
  } catch {
    return undefined;
  }
}
