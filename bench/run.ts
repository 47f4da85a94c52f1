// `npm run bench`: measures every subject, or those that are named, prints tables and verdicts, and writes what it found to
// bench/results/<name>.json. A target that is missed is a result like any other; a wrong answer, or a subject that cannot
// run, leaves no result and makes the exit status 1. A subject is a file beside this one (lib/report.ts says what it exports).
// A subject that is named alone may be given options of its own; what it finds then is printed and not kept.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { closeChildren } from './lib/child.ts';
import { describeCommit, describeMachine, loadOfLastMinute } from './lib/machine.ts';
import { formatReport, type OptionValues, type Report, type Subject, WrongAnswer } from './lib/report.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const HELP = `Usage: npm run bench -- [subject …] [--quick] [--json] [--list]
       npm run bench -- <subject> [its own options]

  --quick   fewer rounds: to see that it works, not to quote
  --json    a line of JSON for each figure, and nothing else
  --list    the subjects with their own options, and nothing else
`;

const print = (text: string): void => void process.stdout.write(`${text}\n`);
const complain = (text: string): void => void process.stderr.write(`${text}\n`);

const subjectNames = readdirSync(HERE)
  .filter((file) => file.endsWith('.ts') && file !== 'run.ts')
  .map((file) => file.slice(0, -'.ts'.length))
  .sort();

async function load(name: string): Promise<Subject> {
  const subject = (await import(new URL(`${name}.ts`, import.meta.url).href)) as Partial<Subject>;
  const { title, run, options = {} } = subject;
  if (typeof title === 'string' && typeof run === 'function') return { title, run, options };
  throw new Error(`bench/${name}.ts exports no title and run, which lib/report.ts asks of a subject`);
}

interface Asked {
  readonly quick: boolean;
  readonly json: boolean;
  readonly values: OptionValues;
}

async function measure(name: string, { quick, json, values }: Asked): Promise<void> {
  const { title, run } = await load(name);
  const tell = json ? complain : print;
  tell(`${name}: ${title}`);
  const date = new Date().toISOString();
  const loadBefore = loadOfLastMinute();
  const origin = describeCommit();
  const { lines, ...report } = await run({ quick, values, log: (line) => tell(`  ${line}`) });
  if (json) for (const line of lines ?? [report]) print(JSON.stringify(line));
  else print(`\n${formatReport(report)}`);
  const tree = `${origin.commit ?? 'no commit'}${origin.dirty ? ', with changes' : ''}; load before: ${loadBefore}.`;
  if (Object.keys(values).length > 0) return tell(`\n${tree}\n`);
  const machine = { ...describeMachine(), loadBefore };
  const path = write(name, { subject: name, title, date, ...origin, quick, machine, ...report });
  tell(`\n${tree} Written to ${path}\n`);
}

function write(name: string, result: Report & Record<string, unknown>): string {
  const folder = `${HERE}results`;
  mkdirSync(folder, { recursive: true });
  const path = `${folder}/${name}.json`;
  const short = (_: string, value: unknown) => (typeof value === 'number' ? Number(value.toPrecision(5)) : value);
  writeFileSync(path, `${JSON.stringify(result, short, 2)}\n`);
  return relative(process.cwd(), path);
}

/** The command line is not one that we know. */
class UsageError extends Error {}

const OPTIONS = {
  quick: { type: 'boolean' },
  json: { type: 'boolean' },
  list: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

/** The first look is for the subject, whose own options the second knows. */
async function readCommandLine() {
  const { positionals } = parseArgs({ allowPositionals: true, strict: false, options: OPTIONS });
  const [only, ...others] = positionals.filter((name) => subjectNames.includes(name));
  const own = only && others.length === 0 ? Object.keys((await load(only)).options ?? {}) : [];
  const ownOptions = Object.fromEntries(own.map((name) => [name, { type: 'string', multiple: true } as const]));
  try {
    return parseArgs({ allowPositionals: true, options: { ...ownOptions, ...OPTIONS } });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

async function list(name: string): Promise<void> {
  const { title, options = {} } = await load(name);
  print(`${name}  ${title}`);
  for (const [option, meaning] of Object.entries(options)) print(`  --${option}  ${meaning}`);
}

async function main(): Promise<void> {
  const { values, positionals } = await readCommandLine();
  const { quick = false, json = false, list: listing, help, ...own } = values;
  if (help) return print(HELP);
  if (listing) {
    for (const name of subjectNames) await list(name);
    return;
  }
  const unknown = positionals.filter((name) => !subjectNames.includes(name));
  if (unknown.length > 0)
    throw new UsageError(`there is no subject ${unknown.join(', ')}; there is ${subjectNames.join(', ')}`);
  for (const name of positionals.length > 0 ? positionals : subjectNames) {
    await measure(name, { quick, json, values: own }).catch((error: unknown) => {
      const why = error instanceof WrongAnswer ? `a wrong answer, so no times: ${error.message}` : explain(error);
      complain(`${name}: ${why}`);
      process.exitCode = 1;
    });
  }
}

const explain = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : String(error));

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)
  process.once(signal, () => void closeChildren().finally(() => process.exit(code)));

main().catch((error: unknown) => {
  complain(error instanceof UsageError ? `${error.message}\n\n${HELP}` : explain(error));
  process.exitCode = 2;
});
