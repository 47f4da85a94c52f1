// The house rules that a machine can see: who imports whom, where a runtime and the environment are touched, and how a
// file introduces itself. Every rule must also find exactly what is wrong in planted files.
// The import of a type counts for rooms, and not for cycles: only what is loaded can be met half-initialized.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { describe, test } from 'node:test';
import { type House, type Link, readHouse, readSource, type Source, waysFrom } from './architecture/imports.ts';

/** What the core's HTTP face puts together. */
const FOR_SERVING = [
  ...['core', 'core/bodies.ts', 'core/metrics.ts', 'core/route.ts', 'core/event-stream.ts', 'core/tensor-answers.ts'],
  ...[
    'core/backup-routes.ts',
    'core/batch-routes.ts',
    'core/cache-routes.ts',
    'core/claim-routes.ts',
    'core/key-routes.ts',
    'core/kv-routes.ts',
  ],
  ...['core/contract', 'core/gpu', 'core/cache', 'core/store', 'core/backups', 'core/cluster', 'core/jobs', 'db'],
  ...['core/erasure-routes.ts', 'core/erasure'],
];

/** A room is a folder, or a file with rights of its own. Each may import itself and: */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  'core/contract': [],
  shaders: [],
  db: [],
  edge: ['core/contract', 'core/cache/policy/*', 'edge/cli-offline.ts'],
  'edge/cli-offline.ts': ['edge', 'core/backups/main.ts', 'core/upgrade/main.ts'], // which is a process of its own
  'core/gpu': ['core/contract', 'shaders'],
  'core/codec': ['core/contract', 'shaders', 'core/gpu'],
  'core/store': ['core/contract'],
  'core/backups': ['core/contract', 'core/store', 'db'],
  'core/cache': ['core/contract', 'core/gpu', 'core/codec', 'core/store'],
  'core/erasure': [
    ...['core/contract', 'core/cache', 'core/store', 'core/secrets.ts'],
    ...['core/backups/names.ts', 'core/backups/placing.ts'], // what they are called
  ],
  'core/upgrade': ['core/contract', 'core/store', 'core/config.ts', 'core/presets.ts', 'db'],
  'core/cluster': ['core/contract'],
  'core/jobs': ['core/contract', 'core/cluster', 'db'],
  core: ['core/contract', 'db'], // each file that lies directly in core/, but for these:
  'core/server.ts': FOR_SERVING,
  'core/bodies.ts': FOR_SERVING,
  'core/route.ts': FOR_SERVING,
  'core/backup-routes.ts': FOR_SERVING,
  'core/batch-routes.ts': FOR_SERVING,
  'core/cache-routes.ts': FOR_SERVING,
  'core/claim-routes.ts': FOR_SERVING,
  'core/key-routes.ts': FOR_SERVING,
  'core/kv-routes.ts': FOR_SERVING,
  'core/erasure-routes.ts': FOR_SERVING,
  'core/event-stream.ts': FOR_SERVING,
  'core/tensor-answers.ts': FOR_SERVING,
  'core/metrics.ts': FOR_SERVING,
  'core/main.ts': ['core', 'core/*', 'shaders', 'db', 'edge/app.ts', 'edge/config.ts', 'edge/node.ts'],
  bench: ['*'], // each other too; nobody else imports these two
  test: ['*'],
};

/** What is in these rooms runs in Node, Bun, Deno, Workers and browsers alike, but for files made for one of them: */
const EVERYWHERE = ['edge', 'core/contract', 'shaders'];
const MADE_FOR: Readonly<Record<string, string>> = {
  'edge/node.ts': 'node',
  'edge/cli.ts': 'node',
  'edge/cli-backup.ts': 'node',
  'edge/cli-call.ts': 'node',
  'edge/cli-files.ts': 'node',
  'edge/cli-cache.ts': 'node',
  'edge/cli-keys.ts': 'node',
  'edge/cli-kv.ts': 'node',
  'edge/cli-erase.ts': 'node',
  'edge/cli-offline.ts': 'node',
  'edge/cli-kv-calls.ts': 'node',
  'edge/bun.ts': 'bun',
  'edge/workers.ts': 'cloudflare',
  'core/contract/crypto-node.ts': 'node',
};

const READS_ENVIRONMENT =
  /(?:^|\/)config\.ts$|^core\/(?:(?:backups|upgrade)\/)?main\.ts$|^edge\/(?:node|bun|deno|workers|cli)\.ts$|^(?:bench|test)\//;
const FOR_DEVELOPERS = /^(?:bench|test)\/|^db\/drizzle\.config\.ts$/;
const SAYS_NOTHING = /(?:^|[-_])(?:manager|service|helper|util)s?$|(?:Manager|Service|Helper|Util)s?$/;
const UNFINISHED = /\b(?:TODO|FIXME|XXX|HACK)\b/;
const HEAD_CHARS_MIN = 30;
/** Folders of the repository that are no rooms; a new one with .ts files is asked to become one. */
const NOT_ROOMS = /^(?:\..*|node_modules|data|docs)$/;
const ROOT = new URL('../', import.meta.url);

type Breach = readonly [line: number, text: string];

function roomOf(path: string): string {
  if (ROOMS[path]) return path;
  const folders = path.split('/').slice(0, -1);
  return folders.slice(0, folders[0] === 'core' ? 2 : 1).join('/') || path;
}

function mayImport(from: string, path: string): boolean {
  const isAllowed = (to: string) => to === '*' || to === path || to === roomOf(path);
  const isBelow = (to: string) => to.endsWith('/*') && path.startsWith(to.slice(0, -1));
  return [from, ...(ROOMS[from] ?? [])].some((to) => isAllowed(to) || isBelow(to));
}

const runtimeOf = (specifier: string) =>
  isBuiltin(specifier) ? 'node' : /^(node|bun|cloudflare)(?::|$)/.exec(specifier)?.[1];
const isDevelopment = (path: string) => /^(?:bench|test)\//.test(path);
const isLoaded = ({ kind }: Link) => kind === 'static' || kind === 'dynamic';
const isPure = ({ head, path }: Source) => /\bPure\b/.test(head) && !isDevelopment(path);
const isForAll = (it: Source) => isPure(it) || (EVERYWHERE.includes(roomOf(it.path)) && !MADE_FOR[it.path]);

/** A way to be shown, and the line on which it begins. */
function wayTo(end: string, way: readonly Source[]): Breach {
  const next = way[1]?.path ?? end;
  const line = way[0]?.links.find((link) => link.target === next && isLoaded(link))?.line ?? 1;
  return [line, [...way.map(({ path }) => path), end].join(' -> ')];
}

const RULES = {
  rooms({ path, links }, { files }) {
    const room = roomOf(path);
    const allowed = ROOMS[room];
    if (!allowed) return [[1, `${room} is no known room; add it to the table in test/architecture.test.ts`]];
    return links.flatMap(({ target, line }): Breach[] => {
      if (target === undefined || !files.has(target) || mayImport(room, target)) return [];
      if (isDevelopment(target)) return [[line, `nobody imports ${target}; move what is shared out of it`]];
      const instead = `only ${[room, ...allowed].join(', ')}; share by core/contract, or let core/main.ts pass it in`;
      return [[line, `${room} may not import ${target}, ${instead}`]];
    });
  },

  runtimes(source, house) {
    const own = MADE_FOR[source.path];
    if (!isForAll(source) && !own) return [];
    const bound = isPure(source) ? 'a file that says it is Pure' : own ? `a file made for ${own}` : roomOf(source.path);
    const isForeign = ({ specifier }: Link) => (runtimeOf(specifier) ?? own) !== own;
    const direct = source.links.filter(isForeign).map(({ specifier, line }): Breach => {
      return [line, `${bound} may not import ${specifier}; let the entry point pass in what it does`];
    });
    // What it loads counts too, except files under the same rule: they answer for themselves.
    for (const { way, end } of waysFrom(source, house, (link, to) => isLoaded(link) && !isForAll(to))) {
      const found = way.length > 1 && end.links.find((link) => isLoaded(link) && isForeign(link));
      if (!found) continue;
      const [line, shown] = wayTo(found.specifier, way);
      return [...direct, [line, `${bound} may not load ${found.specifier}: ${shown}`]];
    }
    return direct;
  },

  pure(source, { files }) {
    if (!isPure(source)) return [];
    return source.links.flatMap(({ target = '', kind, line }): Breach[] => {
      if (!files.has(target) || kind === 'type') return [];
      if ([roomOf(source.path), 'core/contract'].includes(roomOf(target))) return [];
      return [[line, `a file that says it is Pure may take only types from ${target}; take the rest as a parameter`]];
    });
  },

  cycles(source, house) {
    for (const { way, end } of waysFrom(source, house, isLoaded)) {
      if (!end.links.some((link) => link.target === source.path && isLoaded(link))) continue;
      // Of all files in a cycle, the first by name reports it.
      if (way.some(({ path }) => path < source.path)) return [];
      const [line, shown] = wayTo(source.path, way);
      return [[line, `a cycle: ${shown}; move what two of these share into a file of its own`]];
    }
    return [];
  },

  environment({ path, environment, links }) {
    if (READS_ENVIRONMENT.test(path)) return [];
    const advice = 'the environment is read in config.ts and entry points alone; take the value as a parameter';
    const imported = links.filter(({ specifier, names }) => runtimeOf(specifier) && names.includes('env'));
    return [...imported, ...environment].map(({ line }): Breach => [line, advice]);
  },

  heads({ head }) {
    if (head.length >= HEAD_CHARS_MIN) return [];
    return [[1, `begin the file with a comment of ${HEAD_CHARS_MIN} characters or more: what it is for, and is not`]];
  },

  paths({ links }, { files }) {
    return links.flatMap(({ target, specifier, line }): Breach[] => {
      if (target === undefined || (target.endsWith('.ts') && files.has(target))) return [];
      const fault = target.endsWith('.ts') ? `points at no file (${target})` : 'must end in .ts';
      return [[line, `'${specifier}' ${fault}; name the file as it lies on disk`]];
    });
  },

  packages({ path, links }, { dependencies, devDependencies }) {
    return links.flatMap(({ target, specifier, kind, line }): Breach[] => {
      if (target !== undefined || runtimeOf(specifier)) return [];
      const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
      if (dependencies.has(name)) return [];
      if (!devDependencies.has(name)) return [[line, `package.json does not list ${name}; add it, or do without`]];
      if (kind === 'type' || FOR_DEVELOPERS.test(path)) return [];
      return [[line, `${name} is not installed in production; move it to dependencies, or import types only`]];
    });
  },

  names({ path, exports }) {
    const parts = path.replace(/(?:\.(?:test|bench|d))?\.ts$/, '').split('/');
    const names = [...parts.map((text) => ({ text, line: 1 })), ...exports];
    return names.flatMap(({ text, line }): Breach[] =>
      SAYS_NOTHING.test(text) ? [[line, `the name ${text} says nothing; say what it is or does`]] : [],
    );
  },

  unfinished({ comments }) {
    return comments.flatMap(({ text, line }) =>
      text.split('\n').flatMap((words, i): Breach[] => {
        const word = UNFINISHED.exec(words)?.[0];
        return word ? [[line + i, `${word}: finish it, or write down what is not done where it is decided`]] : [];
      }),
    );
  },
} satisfies Record<string, (source: Source, house: House) => readonly Breach[]>;

type RuleName = keyof typeof RULES;

function* textsBelow(folder: string): Generator<[path: string, text: string]> {
  for (const entry of readdirSync(new URL(folder, ROOT), { withFileTypes: true })) {
    const path = `${folder}${entry.name}`;
    if (entry.isDirectory() && !(folder === '' && NOT_ROOMS.test(entry.name))) yield* textsBelow(`${path}/`);
    else if (entry.isFile() && path.endsWith('.ts')) yield [path, readFileSync(new URL(path, ROOT), 'utf8')];
  }
}

const MANIFEST = { dependencies: { zod: '' }, optionalDependencies: { koffi: '' }, devDependencies: { '@a/kit': '' } };
/** What lies around each planted file: sound or not, only the planted one is examined. */
const NEIGHBOURS: Readonly<Record<string, string>> = {
  ...Object.fromEntries(Object.keys(ROOMS).map((room) => [room.endsWith('.ts') ? room : `${room}/b.ts`, ''])),
  'edge/app.ts': '',
  'edge/node.ts': "import 'node:http';",
  'core/contract/crypto-node.ts': "import 'node:crypto';",
  'core/gpu/loads.ts': "import './reads.ts';",
  'core/gpu/reads.ts': "import 'node:fs'; import type { A } from './a.ts';",
  'db/c.ts': "import './d.ts';",
  'db/d.ts': "\nexport * from './a.ts';",
};

/** A file, and how each breach that the rule finds in it begins. */
type Planted = readonly [path: string, text: string, ...breaches: string[]];
const PLANTED: Readonly<Record<RuleName, readonly Planted[]>> = {
  rooms: [
    ['core/gpu/a.ts', "\nimport '../store/b.ts';", '2 core/gpu may not import core/store/b.ts, only core/gpu, '],
    ['edge/a.ts', "import type { B } from '../core/b.ts';", '1 edge may not import core/b.ts'],
    ['edge/cli.ts', "import { type B } from '../db/b.ts';", '1 edge may not import db/b.ts'],
    ['core/contract/a.ts', "import('../../shaders/b.ts')", '1 core/contract may not import shaders/b.ts'],
    ['core/jobs/a.ts', "new URL('../gpu/b.ts', import.meta.url)", '1 core/jobs may not import core/gpu/b.ts'],
    ['core/main.ts', "import '../edge/b.ts';", '1 core/main.ts may not import edge/b.ts'],
    ['core/main.ts', "import '../bench/b.ts';", '1 nobody imports bench/b.ts'],
    ['core/keys.ts', "import './server.ts';", '1 core may not import core/server.ts'],
    ['core/gpu/c/a.ts', "export * from '../../cache/b.ts';", '1 core/gpu may not import core/cache/b.ts'],
    ['core/new/a.ts', '', '1 core/new is no known room; add it to the table'],
    ['new/a.ts', '', '1 new is no known room; add it to the table'],
    ['core/main.ts', "import './server.ts'; import './gpu/b.ts'; import '../db/b.ts'; import '../edge/app.ts';"],
    ['core/server.ts', "import './b.ts'; import './jobs/b.ts'; import './contract/b.ts';"],
    ['core/cache/policy/a.ts', "import '../b.ts'; import '../../codec/b.ts'; import '../../store/b.ts';"],
    ['bench/a.ts', "import '../test/b.ts'; import '../core/main.ts'; import '../edge/node.ts';"],
  ],
  runtimes: [
    ['edge/a.ts', "\n\nimport { join } from 'node:path';", '3 edge may not import node:path'],
    ['shaders/a.ts', "import type { Stats } from 'fs';", '1 shaders may not import fs'],
    ['core/contract/a.ts', "await import('node:os')", '1 core/contract may not import node:os'],
    ['core/gpu/a.ts', "// Pure: \nimport 'node:os';", '2 a file that says it is Pure may not import node:os'],
    ['edge/bun.ts', "import 'bun'; import 'node:os';", '1 a file made for bun may not import node:os'],
    ['edge/a.ts', "import './node.ts';", '1 edge may not load node:http: edge/a.ts -> edge/node.ts -> node:http'],
    ['core/gpu/a.ts', "// Pure\nimport './loads.ts';", '2 a file that says it is Pure may not load node:fs: '],
    ['edge/cli.ts', "import 'node:fs'; import '../core/contract/crypto-node.ts';"],
    ['edge/a.ts', "import 'zod'; import type { N } from './node.ts'; import './app.ts';"],
    ['core/gpu/a.ts', "// Impure, and not purely.\nimport 'node:os';"],
    ['test/a.ts', "// Pure functions, tested.\nimport 'node:test';"],
  ],
  pure: [
    ['core/cache/a.ts', "// Pure.\nimport '../gpu/b.ts';", '2 a file that says it is Pure may take only types'],
    ['core/cache/a.ts', "/** Pure. */\nimport { type B } from '../gpu/b.ts';", '2 '],
    ['core/cache/a.ts', "// Pure.\nimport './b.ts'; import '../contract/b.ts'; import type { B } from '../gpu/b.ts';"],
    ['core/cache/a.ts', "// Bookkeeping.\nimport '../gpu/b.ts';"],
  ],
  cycles: [
    ['db/a.ts', "\nimport './c.ts';", '2 a cycle: db/a.ts -> db/c.ts -> db/d.ts -> db/a.ts; move what'],
    ['db/a.ts', "await import('./c.ts')", '1 a cycle: '],
    ['db/a.ts', "export * from './a.ts';", '1 a cycle: db/a.ts -> db/a.ts; '],
    ['db/a.ts', "import type { C } from './c.ts'; import './b.ts';"],
    ['core/gpu/a.ts', "import './reads.ts';"],
  ],
  environment: [
    ['core/gpu/a.ts', '\nprocess.env.A', '2 the environment is read in config.ts and entry points alone; '],
    ['core/gpu/a.ts', "process?.env; process['env']", '1 ', '1 '],
    ['core/gpu/a.ts', 'const { pid, env: { A } } = process;', '1 '],
    ['edge/app.ts', 'import.meta.env.A; Deno.env.get(a);\nBun.env', '1 ', '1 ', '2 '],
    ['db/a.ts', "import { pid, env as e } from 'node:process';", '1 '],
    ['db/drizzle.config.ts', 'process.env', '1 '],
    ['edge/config.ts', 'process.env'],
    ['core/main.ts', 'process.env'],
    ['edge/deno.ts', 'Deno.env'],
    ['bench/a.ts', 'process.env'],
    ['db/a.ts', "'process.env'; process.pid; own.env; const { env } = own; const { pid } = process; // process.env"],
  ],
  heads: [
    ['db/a.ts', 'export {}; // What this file is for, at good length.', '1 begin the file with a comment'],
    ['db/a.ts', '\n// What this file is for, at good length.', '1 '],
    ['db/a.ts', '// Too short to say anything.\n\n// More words, but apart from the head.', '1 '],
    ['db/a.ts', '// biome-ignore-all lint/some/rule: many words, but to a tool.', '1 '],
    ['db/a.ts', '#!/usr/bin/env node\n// In two lines it is\n// long enough to be one.\n'],
    ['db/a.ts', '/**\n * In two lines it is\n * long enough to be one.\n */'],
  ],
  paths: [
    ['db/a.ts', "import './b';", "1 './b' must end in .ts"],
    ['db/a.ts', "export { b } from './b.js';", "1 './b.js' must end in .ts"],
    ['db/a.ts', "\nimport('../c.ts')", "2 '../c.ts' points at no file (c.ts)"],
    ['db/a.ts', "new Worker(new URL('e.ts', import.meta.url))", "1 './e.ts' points at no file (db/e.ts)"],
    ['db/a.ts', "import '/db/b.ts';", "1 '/db/b.ts' points at no file"],
    ['db/a.ts', "import '../edge/b.ts'; import 'zod'; new URL('./migrations', import.meta.url);"],
  ],
  packages: [
    ['db/a.ts', "import 'left-pad/b';", '1 package.json does not list left-pad;'],
    ['test/a.ts', "import type { A } from '@a/b/c';", '1 package.json does not list @a/b;'],
    ['db/a.ts', "import { type K } from '@a/kit';", '1 @a/kit is not installed in production;'],
    ['db/a.ts', "import 'zod/mini'; import 'node:fs'; import('koffi'); import type { K } from '@a/kit';"],
    ['db/drizzle.config.ts', "import '@a/kit';"],
    ['bench/a.ts', "import '@a/kit/b';"],
  ],
  names: [
    ['core/gpu/device-manager.ts', '', '1 the name device-manager says nothing'],
    ['test/utils/a.ts', '', '1 the name utils says nothing'],
    ['test/helper.test.ts', '', '1 the name helper says nothing'],
    ['db/a.ts', '\nexport default abstract class KeyService {}', '2 the name KeyService says nothing'],
    ['db/a.ts', 'export async function* dateUtils() {}', '1 the name dateUtils says nothing'],
    ['db/a.ts', 'export const createPoolManager = () => 1;', '1 the name createPoolManager says nothing'],
    ['db/serviced.ts', "export class ManagerOfNone {} export const utility = 'Service'; class Helper {}"],
  ],
  unfinished: [
    ['db/a.ts', '/*\n TODO later */ f(); // FIXME', '2 TODO: finish it', '2 FIXME'],
    ['db/a.ts', '// a HACK\n// XXX', '1 HACK', '2 XXX'],
    ['db/a.ts', "const TODO = 'FIXME'; // hacks, a to-do list"],
  ],
};

/** A piece of code, and each import that is read in it. */
const SNIPPETS: readonly (readonly [code: string, ...imports: string[]])[] = [
  ["import a, { type B, c as d } from 'x'; import * as e from \"y\"; import 'z'", 'static x', 'static y', 'static z'],
  [
    "import {\n  from,\n} from 'x'\nimport type from 'y'\nimport type, { z } from 'z'",
    'static x',
    'static y',
    'static z',
  ],
  ["import type A from 'x'; import type { B } from 'y'; import type from from 'z'", 'type x', 'type y', 'type z'],
  ["export { a } from 'x'; export * as b from 'y'; export type { C } from 'z'", 'static x', 'static y', 'type z'],
  [
    "export type * from 'x'; export { a }\nimport 'y' with {}; export type A = 'from'; export const from = 'z'",
    'type x',
    'static y',
  ],
  ["import('x'); import(`y`); type A = typeof import('z', {})", 'dynamic x', 'dynamic y', 'type z'],
  [`import(x); import('a' + b); import(\`./\${'a'}.ts\`); a.import('x'); b?.import('y')`],
  ["new URL('./a.ts', import.meta.url); import.meta.resolve('./b.ts')", 'url ./a.ts', 'url ./b.ts'],
  ["new URL('./a.wgsl', import.meta.url); new URL('./a.ts', base); new URL('https://a/b.ts', import.meta.url)"],
  ["// import 'a'\n/* import 'b' */ const c = \"import 'c'\"; `import 'd'`; 'it\\'s'; import 'e'", 'static e'],
  [`\`a \${\`b \${{ c: '}' }} \${await import('x')}\`} import 'y'\`; import 'z'`, 'dynamic x', 'static z'],
  ["/[/'\"]\\/`/.test(a); (b) / c; d[0] / 2; e++ / f; import 'x'", 'static x'],
  ["if (a) /'/.test(b); x = () => { return /`/ }\n/\"/.exec(c); d! / e / f; g.return / 2; import 'x'", 'static x'],
  ["#!/usr/bin/env node'\nimport 'x'", 'static x'],
];

test('imports are told from what only looks like them', () => {
  for (const [code, ...expected] of SNIPPETS) {
    const found = readSource('a.ts', code).links.map(({ kind, specifier }) => `${kind} ${specifier}`);
    assert.deepEqual(found, expected, code);
  }
  assert.throws(() => readSource('a.ts', '\nf(]'), /^Error: a\.ts cannot be read: line 2: \] closes no \[$/);
  assert.throws(() => readSource('a.ts', 'f({'), /the file ends inside \{$/);
});

describe('the house', () => {
  const house = readHouse(textsBelow(''), JSON.parse(readFileSync(new URL('package.json', ROOT), 'utf8')));

  test('is read: this file, and what it imports', () => {
    const last = house.files.get('test/architecture.test.ts')?.links.at(-1)?.target;
    assert.equal(last, 'test/architecture/imports.ts');
  });

  for (const rule of Object.keys(RULES) as RuleName[]) {
    test(`keeps the rule of ${rule}`, () => {
      const found = [...house.files.values()].flatMap((source) =>
        RULES[rule](source, house).map(([line, text]) => `${source.path}:${line} ${rule}: ${text}`),
      );
      assert.ok(found.length === 0, `\n${found.join('\n')}`);
    });

    test(`the rule of ${rule} finds what is planted, and nothing else`, () => {
      assert.ok(PLANTED[rule].some(([, , ...breaches]) => breaches.length > 0));
      for (const [path, text, ...expected] of PLANTED[rule]) {
        const planted = readHouse(Object.entries({ ...NEIGHBOURS, [path]: text }), MANIFEST);
        const source = planted.files.get(path);
        const found = source && RULES[rule](source, planted).map((breach) => breach.join(' '));
        const begun = found?.map((breach, i) => breach.slice(0, expected[i]?.length));
        assert.deepEqual(begun, expected, `${path}: ${text}`);
      }
    });
  }
});
