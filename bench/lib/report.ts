// What a subject of the benchmark answers, and how a person reads it: aligned tables, then a verdict for each target.
// A number that could not be measured is null, never zero; a target without a number is neither met nor missed.

export interface Column {
  readonly name: string;
  /** '' where the number has none. */
  readonly unit: string;
}
export interface Row {
  readonly name: string;
  /** One for each column. */
  readonly values: readonly (number | null)[];
}
export interface Table {
  readonly title: string;
  readonly columns: readonly Column[];
  readonly rows: readonly Row[];
}
export interface Check {
  readonly name: string;
  /** At least this much; or at most, where `isMost` says so. */
  readonly asked: number;
  readonly isMost?: true;
  readonly got: number | null;
  readonly unit: string;
  readonly met: boolean | null;
}
export interface Report {
  readonly tables: readonly Table[];
  readonly checks: readonly Check[];
  /** What one must know to read the numbers: versions, what was missing. */
  readonly notes: readonly string[];
  /** What `--json` prints instead of the tables, a line each. */
  readonly lines?: readonly object[];
}

/** What was given for a subject's own options: a list of all that was, as each may be given again. */
export type OptionValues = Readonly<Record<string, string | boolean | readonly (string | boolean)[] | undefined>>;

export interface RunOptions {
  /** Fewer rounds: to see that it works, not to quote. */
  readonly quick: boolean;
  readonly log: (line: string) => void;
  readonly values: OptionValues;
}
/** What a file `bench/<name>.ts` exports. */
export interface Subject {
  readonly title: string;
  readonly run: (options: RunOptions) => Promise<Report>;
  /** Options of its own, which may be given when no other subject is named: what each is, for people. */
  readonly options?: Readonly<Record<string, string>>;
}

/** A rival's or our own answer is not what it has to be; its time means nothing. */
export class WrongAnswer extends Error {}

export const atLeast = (name: string, asked: number, got: number | null, unit: string): Check => ({
  name,
  asked,
  got,
  unit,
  met: got === null ? null : got >= asked,
});

export const atMost = (name: string, asked: number, got: number | null, unit: string): Check => ({
  ...{ name, asked, isMost: true, got, unit },
  met: got === null ? null : got <= asked,
});

export function formatReport({ tables, checks, notes }: Report): string {
  const verdicts = checks.map(formatCheck);
  return [
    ...tables.map(formatTable),
    ...(verdicts.length > 0 ? [verdicts.join('\n')] : []),
    ...(notes.length > 0 ? [notes.join('\n')] : []),
  ].join('\n\n');
}

function formatCheck({ name, asked, isMost, got, unit, met }: Check): string {
  const verdict = met === null ? 'NOT MEASURED' : met ? 'met' : 'MISSED';
  const amount = (number: string) => (unit === '' ? number : `${number} ${unit}`);
  const found = got === null ? 'nothing' : amount(formatNumber(got));
  return `${verdict.padEnd(12)}  ${name}: asked at ${isMost ? 'most' : 'least'} ${amount(String(asked))}, got ${found}`;
}

function formatTable({ title, columns, rows }: Table): string {
  const lines = [
    [title, ...columns.map(({ name, unit }) => (unit ? `${name}, ${unit}` : name))],
    ...rows.map(({ name, values }) => [`  ${name}`, ...values.map(formatNumber)]),
  ];
  const widths = lines[0]?.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0))) ?? [];
  const align = (cell: string, column: number) =>
    column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0);
  return lines.map((line) => line.map(align).join('   ').trimEnd()).join('\n');
}

/** Three digits that mean something. */
function formatNumber(value: number | null): string {
  if (value === null) return '–';
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size < 1e-3) return value.toExponential(2);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 3 : size >= 0.01 ? 4 : 5);
}
