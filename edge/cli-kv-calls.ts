// The commands for what is held of token sequences: `blatam kv lookup | pin | unpin | clear | events`. Tokens are given as for
// `kv load`: a list, a text file, or a safetensors file with `tokens`.

import type { z } from 'zod';
import { kvClearSchema, kvLookupSchema, kvPinSchema } from '../core/contract/kv-calls.ts';
import { type Call, json, usage } from './cli-call.ts';
import { Failure, writeTo } from './cli-files.ts';
import { optionOf, tokensOf } from './cli-kv.ts';
import { counted, kvClearLine, kvEventLine, kvLookupLines } from './cli-words.ts';

export async function kvLookup({ connect, words, options, io }: Call): Promise<void> {
  const tokens = await tokensOf(words[0] ?? '');
  const { model, salt, explain = false } = options;
  const asked = checked(kvLookupSchema, { model, salt, tokens: [...tokens] });
  const found = await (await connect()).kv.lookup({ model: asked.model, salt, tokens, explain });
  io.stdout.write(options.json ? json(found) : kvLookupLines(asked.model, tokens.length, found));
}

export async function kvPin({ connect, words, options, io }: Call): Promise<void> {
  const tokens = await tokensOf(words[0] ?? '');
  const { model, salt, ttl } = options;
  const asked = checked(kvPinSchema, { model, salt, tokens: [...tokens], ttl: secondsOf(ttl) });
  const pinned = await (await connect()).kv.pin({ model: asked.model, salt, tokens, ttl: asked.ttl });
  const { pin, matchedTokens, pinnedBlocks, expiresAt } = pinned;
  const told = `pinned ${matchedTokens} of ${counted(tokens.length, 'token')} for ${asked.model}`;
  io.stdout.write(
    options.json ? json(pinned) : `${told}: ${counted(pinnedBlocks, 'block')} until ${expiresAt}, by the pin ${pin}\n`,
  );
}

export async function kvUnpin({ connect, words: [word], options, io }: Call): Promise<void> {
  const { model, salt, pin } = options;
  if ((word === undefined) === (pin === undefined)) throw usage('kv unpin needs either --pin or TOKENS.');
  if (word !== undefined && model === undefined) throw usage('kv unpin needs --model with TOKENS.');
  const asked = pin === undefined ? { model: model ?? '', salt, tokens: await tokensOf(word ?? '') } : { pin };
  const { kv } = await connect();
  const { pins } = await kv.unpin(asked);
  io.stdout.write(options.json ? json({ pins }) : `unpinned; your tenant has ${counted(pins, 'pin')} left\n`);
}

export async function kvClear({ connect, options, io }: Call): Promise<void> {
  const { model, salt, prefix, all = false } = options;
  const isNarrowed = model !== undefined || salt !== undefined || prefix !== undefined;
  if (all === isNarrowed)
    throw usage('kv clear needs --model, --salt or --prefix, or --all for whatever your tenant has stored.');
  const tokens = prefix === undefined ? undefined : await tokensOf(prefix);
  checked(kvClearSchema, { model, salt, prefix: tokens && [...tokens] });
  const cleared = await (await connect()).kv.clear({ model, salt, prefix: tokens });
  io.stdout.write(options.json ? json(cleared) : kvClearLine(cleared));
}

export async function kvEvents({ connect, options, io }: Call): Promise<void> {
  const after = options.after === undefined ? undefined : Number(options.after);
  if (after !== undefined && !(Number.isSafeInteger(after) && after >= 0))
    throw usage(`--after: ${options.after} is no number of an event.`);
  const { kv } = await connect();
  for await (const event of kv.events({ after }))
    await writeTo(io.stdout, options.json ? json(event) : kvEventLine(event), io.signal);
}

const secondsOf = (text: string | undefined): number | undefined => (text === undefined ? undefined : Number(text));

/** What the server would refuse is said as a mistake of the options. */
function checked<S extends z.ZodType>(schema: S, asked: object): z.infer<S> {
  const parsed = schema.safeParse(asked);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  if (issue?.path[0] === 'tokens') throw new Failure(`the tokens: ${issue.message}.`);
  throw usage(`--${optionOf(issue?.path[0])}: ${issue?.message}.`);
}
