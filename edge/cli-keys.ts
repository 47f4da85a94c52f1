// The commands for keys: `blatam keys create | list | rotate | revoke`, and `blatam audit`. A secret is told once: it goes into a
// key file of mode 0600, or to stdout where none is named, and a file that is there already is looked for before it is made.

import { writeFile } from 'node:fs/promises';
import { keyBodySchema, type NewKeyAnswer, rotateBodySchema } from '../core/contract/keys.ts';
import { type Call, EXIT, json, usage } from './cli-call.ts';
import { assertFree, Failure, faultCode, writeTo } from './cli-files.ts';
import { columns, plain } from './cli-words.ts';

export async function keysCreate({ connect, words: [name], options, io }: Call): Promise<void> {
  const { scopes, tenant, ttl, prefixes, models, addresses, out, force = false } = options;
  const asked = keyBodySchema.safeParse({
    ...{ name, scopes: listOf(scopes), tenant, ttl: numberOf('ttl', ttl) },
    restrictions: given({ prefixes: listOf(prefixes), models: listOf(models), addresses: listOf(addresses) }),
  });
  if (!asked.success) {
    const [issue] = asked.error.issues;
    throw usage(`--${String(issue?.path.find((part) => part !== 'restrictions'))}: ${issue?.message}.`);
  }
  if (out !== undefined) await assertFree(out, force);
  const { keys } = await connect();
  await tell(await keys.create(asked.data), { out, force, io, isJson: options.json ?? false }, 'made');
}

export async function keysRotate({ connect, words: [keyid = ''], options, io }: Call): Promise<void> {
  const { overlap, out, force = false } = options;
  const asked = rotateBodySchema.safeParse(given({ overlap: numberOf('overlap', overlap) }));
  if (!asked.success) throw usage(`--overlap: ${asked.error.issues[0]?.message}.`);
  if (out !== undefined) await assertFree(out, force);
  const { keys } = await connect();
  const rotated = await keys.rotate(keyid, asked.data.overlap);
  if (rotated === undefined) throw missing(keyid);
  const until = rotated.overlapUntil ?? '';
  await tell(
    rotated,
    { out, force, io, isJson: options.json ?? false },
    `has a new secret; the one so far works until ${until}`,
  );
}

export async function keysRevoke({ connect, words: [keyid = ''], options, io }: Call): Promise<void> {
  const { keys } = await connect();
  if (!(await keys.revoke(keyid))) throw missing(keyid);
  io.stdout.write(options.json ? json({ keyid, revoked: true }) : `revoked ${plain(keyid)}\n`);
}

export async function keysList({ connect, options, io }: Call): Promise<void> {
  const rows = [['KEYID', 'TENANT', 'NAME', 'SCOPES', 'RESTRICTED', 'EXPIRES', 'STATE']];
  const { keys } = await connect();
  for await (const key of keys.list({ tenant: options.tenant })) {
    if (options.json) await writeTo(io.stdout, json(key), io.signal);
    const { keyid, tenant, name, scopes, restrictions, expiresAt, revokedAt } = key;
    const isOver = expiresAt !== null && Date.parse(expiresAt) <= Date.now();
    const state = revokedAt !== null ? 'revoked' : isOver ? 'expired' : 'works';
    const restricted = Object.entries(restrictions).map(([what, each]) => `${what} ${each?.join(',')}`);
    rows.push([keyid, tenant, name, scopes.join(','), restricted.join(' ') || '-', expiresAt ?? 'never', state]);
  }
  if (!options.json) await writeTo(io.stdout, columns(rows), io.signal);
}

export async function audit({ connect, options, io }: Call): Promise<void> {
  const { keys } = await connect();
  let after = numberOf('after', options.after) ?? 0;
  for (;;) {
    const page = await keys.audit({ after, limit: 1000 });
    const lines = page.entries.map((entry) => {
      const { id, at, tenant, actor, action, subject, detail } = entry;
      return options.json
        ? json(entry)
        : `${plain(`${id} ${at} ${tenant ?? '-'} ${actor} ${action} ${subject} ${JSON.stringify(detail)}`)}\n`;
    });
    if (lines.length === 0) return;
    await writeTo(io.stdout, lines.join(''), io.signal);
    after = page.after;
  }
}

interface Telling extends Pick<Call, 'io'> {
  readonly out: string | undefined;
  readonly force: boolean;
  readonly isJson: boolean;
}

async function tell(key: NewKeyAnswer, { out, force, io, isJson }: Telling, what: string): Promise<void> {
  const { keyid, secret, scopes } = key;
  const file = `${JSON.stringify({ keyid, secret, scopes }, null, 2)}\n`;
  if (out === undefined) return void io.stdout.write(isJson ? json(key) : file);
  try {
    await writeFile(out, file, { mode: 0o600, flag: force ? 'w' : 'wx', flush: true });
  } catch (cause) {
    // Told here or nowhere.
    io.stdout.write(file);
    throw new Failure(
      `${keyid} ${what}, but ${out} cannot be written (${faultCode(cause)}): it is above.`,
      EXIT.failed,
      { cause },
    );
  }
  const { secret: _, ...told } = key;
  io.stdout.write(isJson ? json({ ...told, file: out }) : `${plain(keyid)} ${what}: ${out}\n`);
}

const listOf = (text: string | undefined): string[] | undefined =>
  text?.split(',').flatMap((each) => each.trim() || []);

/** Without what was not said. */
const given = <T extends object>(said: T): Partial<T> =>
  Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined)) as Partial<T>;

function numberOf(name: string, text: string | undefined): number | undefined {
  if (text === undefined || /^\d{1,15}$/.test(text)) return text === undefined ? undefined : Number(text);
  throw usage(`--${name}: must be a whole number.`);
}

const missing = (keyid: string): Failure =>
  new Failure(`there is no key ${keyid}, or not any more. See them: npx blatam keys list`, EXIT.missing);
