// What TypeScript files say, read without a compiler: head, comments, imports and the ways they lead, exported names,
// and where the environment is read. Strings, templates, regular expressions and comments are told apart from code, so
// that nothing quoted counts. Brackets that do not pair mean that the reader lost its way: it throws, never guesses.
// Not here: what is allowed, and references whose name is computed.

import { posix } from 'node:path';

export interface Source {
  /** From the root of the repository, with `/`. */
  readonly path: string;
  /** The comment on the first line, without its marks. */
  readonly head: string;
  readonly comments: readonly Token[];
  readonly links: readonly Link[];
  readonly exports: readonly Token[];
  /** Where `process.env` and its like are read. */
  readonly environment: readonly Token[];
}

export interface Link extends Import {
  /** The path that a relative import points at, whether there is a file or not. */
  readonly target: string | undefined;
}

/** `text` is a string or a template without `${}`, its quotes left off; `part` is a piece of a template with them. */
export interface Token {
  readonly kind: 'word' | 'sign' | 'text' | 'part' | 'regex' | 'comment';
  readonly text: string;
  readonly line: number;
}

/** `type` is erased before it runs; `import { type A }` is not, and counts as `static`. `url` starts a file of ours. */
export interface Import {
  readonly kind: 'static' | 'type' | 'dynamic' | 'url';
  readonly specifier: string;
  readonly line: number;
  /** The words between `import` and `from`, bound or not. */
  readonly names: readonly string[];
}

export interface House {
  readonly files: ReadonlyMap<string, Source>;
  readonly dependencies: ReadonlySet<string>;
  readonly devDependencies: ReadonlySet<string>;
}

/** What package.json lists, by name. */
export type Manifest = { readonly [list in 'dependencies' | 'optionalDependencies' | 'devDependencies']?: object };

export function readHouse(texts: Iterable<readonly [path: string, text: string]>, manifest: Manifest): House {
  const files = new Map([...texts].map(([path, text]) => [path, readSource(path, text)]));
  const dependencies = new Set(Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies }));
  return { files, dependencies, devDependencies: new Set(Object.keys(manifest.devDependencies ?? {})) };
}

export function readSource(path: string, text: string): Source {
  try {
    const tokens = tokenize(text);
    const code = tokens.filter(({ kind }) => kind !== 'comment');
    return {
      path,
      head: headOf(text, tokens),
      comments: tokens.filter(({ kind }) => kind === 'comment'),
      links: importsOf(code).map((each) => ({ ...each, target: targetOf(path, each.specifier) })),
      exports: exportsOf(code),
      environment: code.filter((_, i) => readsEnvironment(code, i)),
    };
  } catch (cause) {
    throw new Error(`${path} cannot be read: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

function targetOf(path: string, specifier: string): string | undefined {
  if (specifier.startsWith('/')) return specifier;
  return specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier) : undefined;
}

/** The way to each file that one leads to, nearest first; the first is the way from it to itself. */
export function* waysFrom(source: Source, { files }: House, follow: (link: Link, to: Source) => boolean) {
  const seen = new Set([source]);
  const ways: { readonly way: readonly Source[]; readonly end: Source }[] = [{ way: [source], end: source }];
  for (const each of ways) {
    yield each;
    for (const link of each.end.links) {
      const next = files.get(link.target ?? '');
      if (!next || seen.has(next) || !follow(link, next)) continue;
      seen.add(next);
      ways.push({ way: [...each.way, next], end: next });
    }
  }
}

/** What begins at a place is the first of these that fits. */
const PIECE = new RegExp(
  [
    /(?<space>\s+)/,
    /(?<comment>\/\/.*|\/\*[\s\S]*?\*\/)/,
    /(?<text>'(?:\\[\s\S]|[^'\\\n])*'|"(?:\\[\s\S]|[^"\\\n])*")/,
    /(?<word>[\p{ID_Continue}$#@]+)/u,
    /(?<sign>\?\.|\+\+|--|[\s\S])/,
  ]
    .map(({ source }) => source)
    .join('|'),
  'uy',
);
const REGEX = /\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\/[a-z]*/uy;
const TEMPLATE = /[`}](?:\\[\s\S]|\$(?!\{)|[^`\\$])*(?:`|\$\{)/uy;

const CONDITIONS = new Set(['if', 'while', 'for', 'with']);
const BEFORE_OPERANDS = new Set(
  'return typeof instanceof in of new delete void throw case do else yield await default extends'.split(' '),
);
const PAIRS: Readonly<Record<string, string>> = { ')': '(', ']': '[', '}': '{' };

function tokenize(source: string): Token[] {
  const tokens: Token[] = [];
  const brackets = createBrackets();
  let at = source.startsWith('#!') ? source.search(/\n|$/) : 0;
  let line = 1;
  let last: Token | undefined;
  let operandNext = true; // where a `/` begins a regular expression; elsewhere it divides

  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    return pattern.exec(source);
  };
  const pass = (raw: string): void => {
    for (const character of raw) if (character === '\n') line++;
    at += raw.length;
  };
  const take = (kind: Token['kind'], raw: string, text = raw): void => {
    const token: Token = { kind, text, line };
    tokens.push(token);
    if (kind !== 'comment') last = token;
    pass(raw);
  };

  while (at < source.length) {
    const resumed = source[at] === '}' && brackets.top() === '${';
    const template = resumed || source[at] === '`' ? match(TEMPLATE)?.[0] : undefined;
    const regex = operandNext ? match(REGEX)?.[0] : undefined;
    const { space, comment, text, word, sign = '' } = match(PIECE)?.groups ?? {};
    if (space !== undefined) pass(space);
    else if (comment !== undefined) take('comment', comment);
    else if (template !== undefined) {
      operandNext = template.endsWith('${');
      brackets.template(resumed, operandNext);
      if (resumed || operandNext) take('part', template);
      else take('text', template, template.slice(1, -1));
    } else if (regex !== undefined) {
      operandNext = false;
      take('regex', regex);
    } else if (text !== undefined) {
      operandNext = false;
      take('text', text, text.slice(1, -1));
    } else if (word !== undefined) {
      operandNext = BEFORE_OPERANDS.has(word) && last?.text !== '.';
      take('word', word);
    } else {
      operandNext = brackets.pass(sign, last, line) ?? operandNext;
      take('sign', sign);
    }
  }
  if (brackets.top() !== undefined) throw new Error(`line ${line}: the file ends inside ${brackets.top()}`);
  return tokens;
}

function createBrackets() {
  const open: { readonly sign: string; readonly condition: boolean }[] = [];
  return {
    top: () => open.at(-1)?.sign,
    template(resumed: boolean, interrupted: boolean): void {
      if (resumed) open.pop();
      if (interrupted) open.push({ sign: '${', condition: false });
    },
    /** Whether an operand comes after this sign; undefined if the sign changes nothing about that. */
    pass(sign: string, last: Token | undefined, line: number): boolean | undefined {
      if (sign === '!' || sign === '++' || sign === '--') return undefined;
      if ('([{'.includes(sign)) open.push({ sign, condition: last?.kind === 'word' && CONDITIONS.has(last.text) });
      const opening = PAIRS[sign];
      if (opening === undefined) return true;
      const closed = open.pop();
      if (closed?.sign !== opening) throw new Error(`line ${line}: ${sign} closes no ${opening}`);
      return sign === '}' || closed.condition;
    },
  };
}

/** Whether the tokens from `i` on are exactly these words and signs; a quoted one is none. */
function says(code: readonly Token[], i: number, ...texts: string[]): boolean {
  return texts.every((text, k) => code[i + k]?.text === text && /word|sign/.test(code[i + k]?.kind ?? ''));
}

/** Every reference that is written out, in order; `code` holds no comments. */
function importsOf(code: readonly Token[]): Import[] {
  const found: Import[] = [];
  for (const [i, { text, line }] of code.entries()) {
    if (says(code, i - 1, '.') || says(code, i - 1, '?.')) continue;
    const seen =
      says(code, i, 'import') || says(code, i, 'export')
        ? (call(code, i) ?? statement(code, i, text))
        : started(code, i);
    if (seen) found.push({ ...seen, line });
  }
  return found;
}

type Seen = Omit<Import, 'line'>;

/** `import('…')`, also as a type after `typeof`, and `import.meta.resolve('./….ts')`. */
function call(code: readonly Token[], i: number): Seen | undefined {
  if (says(code, i, 'import', '.', 'meta', '.', 'resolve', '(')) return ours(code[i + 6]);
  const name = code[i + 2];
  if (!says(code, i, 'import', '(') || name?.kind !== 'text') return undefined;
  if (!says(code, i + 3, ')') && !says(code, i + 3, ',')) return undefined;
  return { kind: says(code, i - 1, 'typeof') ? 'type' : 'dynamic', specifier: name.text, names: [] };
}

/** `import … from '…'`, `import '…'` and `export … from '…'`. */
function statement(code: readonly Token[], i: number, keyword: string): Seen | undefined {
  const first = code[i + 1];
  if (keyword === 'import' && first?.kind === 'text') return { kind: 'static', specifier: first.text, names: [] };
  const afterType = says(code, i + 1, 'type') ? i + 2 : i + 1;
  if (keyword === 'export' && !says(code, afterType, '{') && !says(code, afterType, '*')) return undefined;
  for (let j = i + 1; j < code.length; j++) {
    const token = code[j];
    const name = code[j + 1];
    if (says(code, j, 'from') && name?.kind === 'text') {
      const clause = code.slice(i + 1, j);
      const erased = says(clause, 0, 'type') && clause.length > 1 && !says(clause, 1, ',');
      const names = clause.filter(({ kind }) => kind === 'word').map(({ text }) => text);
      return { kind: erased ? 'type' : 'static', specifier: name.text, names };
    }
    if (token?.kind === 'sign' && !/[{},*]/.test(token.text)) return undefined;
    if (says(code, j, '}') && !says(code, j + 1, 'from')) return undefined;
  }
  return undefined;
}

/** `new URL('./….ts', import.meta.url)`: how workers and child processes are named. */
function started(code: readonly Token[], i: number): Seen | undefined {
  if (!says(code, i, 'new', 'URL', '(') || !says(code, i + 4, ',', 'import', '.', 'meta', '.', 'url')) return undefined;
  return ours(code[i + 3]);
}

function ours(name: Token | undefined): Seen | undefined {
  if (name?.kind !== 'text' || !name.text.endsWith('.ts') || name.text.includes(':')) return undefined;
  return { kind: 'url', specifier: name.text.startsWith('.') ? name.text : `./${name.text}`, names: [] };
}

/** The names that declarations export; not those of `export { … }`, which were declared before. */
function exportsOf(code: readonly Token[]): Token[] {
  return code.flatMap((_, i) => {
    if (!says(code, i, 'export')) return [];
    const words = code.slice(i + 1, i + 6).filter(({ text }) => !/^(?:default|declare|abstract|async|\*)$/.test(text));
    const [declares, name] = words;
    const isNamed = /^(?:class|function|const|let|interface|type)$/.test(declares?.text ?? '') && name?.kind === 'word';
    return isNamed ? [name] : [];
  });
}

/** `process.env`, `process['env']`, `{ env } = process`, and the same of Deno, Bun and import.meta. */
function readsEnvironment(code: readonly Token[], i: number): boolean {
  if (!['process', 'Deno', 'Bun'].some((owner) => says(code, i, owner)) && !says(code, i, 'import', '.', 'meta'))
    return false;
  const next = says(code, i, 'import') ? i + 3 : i + 1;
  if (says(code, next, '.', 'env') || says(code, next, '?.', 'env')) return true;
  if (says(code, next, '[')) return code[next + 1]?.text === 'env';
  if (!says(code, i - 2, '}', '=') || says(code, next, '.')) return false;
  let opening = i - 2;
  for (let depth = 1; depth > 0 && opening > 0; ) {
    opening--;
    if (says(code, opening, '}')) depth++;
    else if (says(code, opening, '{')) depth--;
  }
  return code.slice(opening, i).some((_, j) => says(code, opening + j, 'env'));
}

/** What the comment on the first line says (or on the second, after a `#!`), without what is said to tools. */
function headOf(source: string, tokens: readonly Token[]): string {
  let next = source.startsWith('#!') ? 2 : 1;
  const lines: string[] = [];
  for (const { kind, text, line } of tokens) {
    if (kind !== 'comment' || line !== next) break;
    const said = text.replace(/^\/\/+|^\/\*+|\*+\/$|^\s*\* ?/gm, '').split('\n');
    lines.push(...said.filter((words) => !/^\s*(?:biome-|@ts-|<reference)/.test(words)));
    next += said.length;
    if (text.startsWith('/*')) break;
  }
  return lines.join(' ').replace(/\s+/g, ' ').trim();
}
