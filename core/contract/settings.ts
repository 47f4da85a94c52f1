// Settings: declared once with help and default, read once from an environment, frozen. Edge and core each declare their
// own (config.ts); this file only knows how. A malformed value, or a name that looks like a setting and is none, stops the
// start with one line that says what was found and what would be right. Pure: the environment is a parameter.
import { z } from 'zod';

export interface Setting<T> {
  readonly schema: z.ZodType<T, string>;
  /** As it would stand in the environment; '' is unset. */
  readonly default: string;
  readonly help: string;
}

export type Settings = Readonly<Record<string, Setting<unknown>>>;
export type Values<S extends Settings> = { readonly [K in keyof S]: S[K] extends Setting<infer T> ? T : never };
export type Environment = Readonly<Record<string, string | undefined>>;

/** What is wrong with the settings, in one line for a person. */
export class SettingsError extends Error {}

export const setting = <T>(schema: z.ZodType<T, string>, fallback: string, help: string): Setting<T> => ({
  schema,
  default: fallback,
  help,
});

export const text = z.string();
export const optionalText = z.string().transform((s) => (s === '' ? undefined : s));
export const integer = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d+$/, 'must be a whole number')
    .transform(Number)
    .refine((n) => n >= min && n <= max, `must be from ${min} to ${max}`);
/** What it is where it is set. */
export const optional = <T>(schema: z.ZodType<T, string>) =>
  z.union([z.literal('').transform((): T | undefined => undefined), schema]);
export const choice = <const C extends readonly [string, ...string[]]>(choices: C) =>
  z.string().refine((s): s is C[number] => choices.includes(s), `must be one of ${choices.join(', ')}`);
export const list = z.string().transform((s) => s.split(',').flatMap((item) => item.trim() || []));
/** base64 of at least `bytes` bytes, or unset. */
export const secret = (bytes: number) =>
  z.string().transform((s, context) => {
    if (s === '') return undefined;
    try {
      const decoded = Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
      if (decoded.length >= bytes) return decoded;
    } catch {
      // said below
    }
    context.addIssue({ code: 'custom', message: `must be base64 of at least ${bytes} bytes` });
    return z.NEVER;
  });

export function readSettings<S extends Settings>(settings: S, environment: Environment): Values<S> {
  const values: Record<string, unknown> = {};
  for (const [name, { schema, default: fallback }] of Object.entries(settings)) {
    const parsed = schema.safeParse(environment[name] || fallback);
    if (!parsed.success)
      throw malformed(name, environment[name] ?? '', parsed.error.issues[0]?.message ?? 'is malformed');
    values[name] = parsed.data;
  }
  return Object.freeze(values) as Values<S>;
}

const SECRETIVE = /SECRET|TOKEN|KEY|URL/;
const malformed = (name: string, value: string, why: string) =>
  new SettingsError(`${name}=${SECRETIVE.test(name) ? '…' : value.slice(0, 100)}: ${why}. See npm start -- --help`);

const PREFIXES = /^(?:BLATAM|EDGE|CORE)_/;
/** What Kubernetes sets for services that happen to be called edge or core. */
const OF_KUBERNETES = /_(?:SERVICE_(?:HOST|PORT)|PORT_\d+_)/;
const NEAR = 2;
const NEAR_CHARS_MIN = 6;

/** Throws if the environment has a name that is meant for us and that none of `known` is. */
export function refuseUnknown(known: readonly string[], environment: Environment): void {
  for (const name of Object.keys(environment)) {
    if (known.includes(name)) continue;
    const near = name.length < NEAR_CHARS_MIN ? undefined : known.find((k) => isNear(k, name));
    if (near === undefined && (!PREFIXES.test(name) || OF_KUBERNETES.test(name))) continue;
    const hint = near ? `; did you mean ${near}?` : '. See npm start -- --help';
    throw new SettingsError(`${name} is set, but there is no such setting${hint}`);
  }
}

/** Every setting with its default and meaning, as a person reads it. */
export function describeSettings(settings: Settings): string {
  const rows = Object.entries(settings).map(([name, s]) => [`${name}=${s.default}`, s.help] as const);
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, help]) => `  ${left.padEnd(width)}  ${help}`).join('\n');
}

const isNear = (known: string, name: string): boolean => known.startsWith(`${name}_`) || distance(known, name) <= NEAR;

/** Levenshtein's, for names this short. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, substituted));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
