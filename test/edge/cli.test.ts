// The command line as a real process against a loopback server that verifies every request: what it says, where it says
// it, its exit codes, and that no half file is ever left behind.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { problem } from '../../core/contract/problems.ts';
import { joinParts, tensorParts } from '../../core/contract/tensors.ts';
import { main } from '../../edge/cli.ts';
import { columns, kvStoreLine, putLine, size } from '../../edge/cli-words.ts';
import { bodyHeaders, openTensorServer, refuse, type TensorServer } from './tensor-server.ts';

const CLI = fileURLToPath(new URL('../../edge/cli.ts', import.meta.url));
const MIB = 1024 * 1024;

let server: TensorServer;
let folder: string;
before(async () => {
  server = await openTensorServer();
});
after(() => server.close());
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blatam-cli-'));
  await mkdir(join(folder, 'data'));
  await writeFile(join(folder, 'data/admin-key.json'), JSON.stringify({ ...keyOf(server), scopes: [] }));
  await writeFile(join(folder, 'x.bin'), file);
});
afterEach(async () => {
  server.override = undefined;
  server.tensors.clear();
  server.requests.length = 0;
  await rm(folder, { recursive: true });
});

const keyOf = ({ keyid, secret }: TensorServer) => ({ keyid, secret });

function filled(length: number, name = 'x'): Uint8Array {
  return joinParts(tensorParts([{ name, dtype: 'U8', shape: [length], data: new Uint8Array(length).fill(7) }]));
}
const file = filled(2000);
const digest = createHash('sha256').update(file).digest('hex');

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly bytes: Uint8Array;
  readonly err: string;
}

function start(args: readonly string[], env: Record<string, string> = {}): ChildProcess {
  return spawn(process.execPath, [CLI, ...args], { cwd: folder, env: { BLATAM_URL: server.url, ...env } });
}

async function ended(child: ChildProcess, stdin: Uint8Array = new Uint8Array()): Promise<Ended> {
  const { stdin: to, stdout, stderr } = child;
  assert.ok(to && stdout && stderr);
  to.on('error', () => {}); // it may not read
  to.end(stdin);
  const [[code, signal], parts, err] = await Promise.all([once(child, 'close'), stdout.toArray(), text(stderr)]);
  const bytes = Buffer.concat(parts);
  return { code, signal, out: bytes.toString(), bytes, err };
}

const run = (...args: string[]) => ended(start(args));

/** Nothing on stdout, one line on stderr. */
function assertFails({ code, out, err }: Pick<Ended, 'code' | 'out' | 'err'>, wanted: number, message: RegExp): void {
  assert.match(err, message);
  assert.deepEqual([code, out], [wanted, '']);
  assert.equal(err.trimEnd().split('\n').length, 1, err);
  assert.match(err, /^blatam: /);
}

const files = async () => (await readdir(folder)).filter((name) => name !== 'data' && name !== 'x.bin');

describe('put', () => {
  test('stores a file and says so', async () => {
    const first = await run('put', 'a/x', 'x.bin', '--ttl', '60', '--priority', '7');
    assert.deepEqual([first.err, first.code], ['', 0]);
    assert.match(
      first.out,
      /^stored a\/x: 2\.0 KiB in 1 tensor, kept as 2\.0 KiB \(raw, hot on adapter-0\), until 20\S+\n$/,
    );
    assert.equal(server.requests[0]?.url, '/v1/tensors/a/x?ttl=60&priority=7');
    assert.deepEqual(server.tensors.get('a/x'), file);
    const second = await run('put', 'a/x', 'x.bin', '--json');
    const answer = JSON.parse(second.out);
    assert.deepEqual([answer.key, answer.digest, answer.created, answer.deduplicated], ['a/x', digest, false, true]);
  });

  test('takes - from stdin', async () => {
    const { code } = await ended(start(['put', 'x', '-']), file);
    assert.equal(code, 0);
    assert.deepEqual(server.tensors.get('x'), file);
  });

  test('takes at most 256 MiB from stdin', async () => {
    const piece = new Uint8Array(MIB);
    const io = inProcess();
    const code = await main(['put', 'x', '-'], {
      ...io,
      stdin: Readable.from(Array.from({ length: 257 }, () => piece)),
    });
    assertFails({ code, out: io.out(), err: io.err() }, 1, /stdin has more than 256\.0 MiB/);
  });

  test('streams a large file, without progress where stderr is no terminal', async () => {
    const large = filled(9 * MIB);
    await writeFile(join(folder, 'large'), large);
    const { code, err } = await run('put', 'x', 'large');
    assert.deepEqual([code, err], [0, '']);
    assert.equal(server.requests[0]?.headers['content-length'], String(large.length));
    assert.deepEqual(server.tensors.get('x'), large);
  });

  test('refuses what is no safetensors file before it sends anything', async () => {
    await writeFile(join(folder, 'text'), 'not tensors at all, but words');
    await writeFile(join(folder, 'empty'), '');
    await writeFile(join(folder, 'cut'), file.subarray(0, -1));
    await writeFile(join(folder, 'head'), file.subarray(0, 20));
    for (const [name, found] of [
      ['text', /announce a header of \d+ bytes, at most/],
      ['empty', /The file has 0 bytes/],
      ['cut', /The file has 2\d+ bytes, and its header tells of/],
      ['head', /It has 20 bytes, and its header alone would have/],
    ] as const) {
      const failed = await run('put', 'x', name);
      assertFails(failed, 1, new RegExp(`^blatam: put x: ${name} is no whole safetensors file\\. `));
      assert.match(failed.err, found);
    }
    assertFails(
      await ended(start(['put', 'x', '-']), file.subarray(1)),
      1,
      /put x: stdin is no whole safetensors file/,
    );
    assert.equal(server.requests.length, 0);
  });

  test('says which file is missing or none', async () => {
    assertFails(await run('put', 'x', 'none'), 1, /^blatam: put x: there is no file none\.$/m);
    assertFails(await run('put', 'x', 'data'), 1, /data is no regular file/);
  });

  test('says what the server refused, and the request', async () => {
    server.override = (_request, answer) => {
      refuse(answer, problem('scope_missing', 'The key lacks tensors:write.\u001b[31m\nSecond line'));
      return true;
    };
    const failed = await run('put', 'x', 'x.bin');
    const line =
      /refused with 403 scope_missing: The key lacks tensors:write\. \[31m Second line \(request request-7\)\n$/;
    assertFails(failed, 1, line);
  });

  test('says so if the file became shorter after it was hashed', async () => {
    await writeFile(join(folder, 'large'), filled(9 * MIB));
    const io = inProcess(true);
    const shorten = (line: string) => line.includes('sending') && truncate(join(folder, 'large'), MIB);
    io.onError = (line) => void shorten(line);
    assert.equal(await main(['put', 'x', join(folder, 'large')], io), 1);
    assert.match(io.err(), /large became shorter while it was read/);
    assert.equal(server.tensors.size, 0);
  });
});

describe('get', () => {
  beforeEach(() => void server.tensors.set('a/x', file));

  test('writes the last part of the key with .safetensors into the current folder', async () => {
    const { code, out, err } = await run('get', 'a/x');
    assert.deepEqual([out, err, code], ['fetched a/x: 2.0 KiB into x.safetensors\n', '', 0]);
    assert.deepEqual(await files(), ['x.safetensors']);
    assert.deepEqual(new Uint8Array(await readFile(join(folder, 'x.safetensors'))), file);
    server.tensors.set('y.safetensors', file);
    const { file: path, bytes, digest: held, cache } = JSON.parse((await run('get', 'y.safetensors', '--json')).out);
    assert.deepEqual([path, bytes, held, cache], ['y.safetensors', file.length, digest, 'hot']);
  });

  test('- writes to stdout, and nothing else does', async () => {
    const { code, bytes, err } = await run('get', 'a/x', '-');
    assert.deepEqual([new Uint8Array(bytes), err, code], [file, '', 0]);
    assertFails(await run('get', 'a/x', '-', '--json'), 2, /both go to stdout/);
  });

  test('ends quietly when the reader of stdout has enough', async () => {
    server.tensors.set('big', filled(4 * MIB));
    const child = start(['get', 'big', '-']);
    child.stdout?.once('data', () => child.stdout?.destroy());
    const err = child.stderr ? text(child.stderr) : '';
    const [code] = await once(child, 'exit');
    assert.deepEqual([code, await err], [0, '']);
  });

  test('does not replace a file without --force, nor what is no file with it', async () => {
    await writeFile(join(folder, 'mine'), 'mine');
    assertFails(await run('get', 'a/x', 'mine'), 1, /get a\/x: mine exists\. Use --force/);
    assert.equal(await readFile(join(folder, 'mine'), 'utf8'), 'mine');
    assert.equal(server.requests.length, 0);
    assertFails(await run('get', 'a/x', 'data', '--force'), 1, /data is no regular file/);
    assertFails(await run('get', 'a/x', 'none/x'), 1, /there is no folder to write none\/x in/);
    assert.equal((await run('get', 'a/x', 'mine', '--force')).code, 0);
    assert.deepEqual(new Uint8Array(await readFile(join(folder, 'mine'))), file);
    assert.deepEqual(await files(), ['mine']);
  });

  test('does not replace a file that appeared while it received', async () => {
    server.override = async (_request, answer) => {
      answer.writeHead(200, bodyHeaders(file)).write(file.subarray(0, 10));
      await writeFile(join(folder, 'mine'), 'mine');
      answer.end(file.subarray(10));
      return true;
    };
    assertFails(await run('get', 'a/x', 'mine'), 1, /mine exists/);
    assert.equal(await readFile(join(folder, 'mine'), 'utf8'), 'mine');
    assert.deepEqual(await files(), ['mine']);
  });

  test('leaves no file behind where the answer is cut, or wrong', async () => {
    server.override = (_request, answer) => {
      answer.writeHead(200, bodyHeaders(file)).write(file.subarray(0, 10));
      setTimeout(() => answer.destroy(), 50);
      return true;
    };
    assertFails(
      await run('get', 'a/x'),
      1,
      /get a\/x: The answer to GET \S+ ended after \d+ of 2\d+ bytes\. Try again/,
    );
    assert.deepEqual(await files(), []);
    await writeFile(join(folder, 'old'), 'old');
    server.override = (_request, answer) => {
      answer.writeHead(200, bodyHeaders(file)).end(new Uint8Array(file.length));
      return true;
    };
    assertFails(await run('get', 'a/x', 'old', '--force'), 1, /The 2\.0 KiB that came do not match their digest/);
    assert.equal((await run('get', 'a/x', '-')).code, 1);
    assert.equal(await readFile(join(folder, 'old'), 'utf8'), 'old');
    assert.deepEqual(await files(), ['old']);
  });

  for (const name of ['SIGINT', 'SIGTERM'] as const)
    test(`${name} removes what was half received, and ends the process as it would have`, async () => {
      server.override = (_request, answer) => {
        answer.writeHead(200, bodyHeaders(file)).write(file.subarray(0, 10));
        return true;
      };
      const child = start(['get', 'a/x']);
      const end = ended(child);
      while ((await files()).length === 0) await wait(10);
      assert.match((await files()).join(), /^x\.safetensors\.[0-9a-f]{12}\.part$/);
      child.kill(name);
      const { signal, err } = await end;
      assert.deepEqual([signal, err], [name, 'blatam: get a/x: interrupted.\n']);
      assert.deepEqual(await files(), []);
    });

  test('answers 4 where there is none', async () => {
    assertFails(
      await run('get', 'none'),
      4,
      /^blatam: get none: there is no tensor none\. See what is held: npx blatam ls\n$/,
    );
    assert.deepEqual(await files(), []);
  });
});

describe('ls, rm, stats, adapters', () => {
  test('ls shows what is held in columns, or as an object a line', async () => {
    for (const key of ['a/1', 'a/22', 'b']) server.tensors.set(key, file);
    const { code, out } = await run('ls', 'a/');
    assert.equal(code, 0);
    assert.equal(
      out,
      [
        'KEY      SIZE     KEPT  TIER  HOLDS      EXPIRES',
        'a/1   2.0 KiB  2.0 KiB  hot   U8 [2000]  never',
        'a/22  2.0 KiB  2.0 KiB  hot   U8 [2000]  never',
        '',
      ].join('\n'),
    );
    const lines = (await run('ls', '--json')).out.trimEnd().split('\n');
    assert.deepEqual(
      lines.map((line) => JSON.parse(line).key),
      ['a/1', 'a/22', 'b'],
    );
    const none = await run('ls', 'c');
    assert.deepEqual([none.code, none.out, none.err], [0, '', 'nothing is held under c\n']);
    assert.deepEqual((await run('ls', 'c', '--json')).err, '');
  });

  test('rm forgets, and answers 4 the second time', async () => {
    server.tensors.set('x', file);
    const { code, out } = await run('rm', 'x');
    assert.deepEqual([code, out], [0, 'removed x\n']);
    assertFails(await run('rm', 'x'), 4, /rm x: there is no tensor x/);
  });

  test('cache policy says what is found out, and changes it', async () => {
    assert.equal(
      (await run('cache', 'policy')).out,
      [
        'strategy   adaptive',
        'objective  hits',
        'pattern    random',
        'in charge  arc, after 1 change',
        'experts    s3fifo 25.0 %, arc -',
        'adapter-0  priority 34-66: 2 payloads, 3.0 KiB, by arc',
        'kv         by lru, after 0 changes',
        'kv hits    50.0 %; in half the room 25.0 %, in twice -',
        '',
      ].join('\n'),
    );
    const changed = JSON.parse((await run('cache', 'policy', '--strategy', 'lru', '--json')).out);
    assert.deepEqual([changed.strategy, changed.objective], ['lru', 'hits']);
    assertFails(await run('cache', 'policy', '--strategy', 'fifo'), 2, /--strategy: /);
    assert.equal((await run('cache', 'stats')).out, (await run('stats')).out);
  });

  test('stats and adapters are columns, or JSON', async () => {
    assert.equal(
      (await run('stats')).out,
      [
        'entries    3',
        'bytes      3.0 MiB hot, 1.5 KiB on disk',
        'hits       7 hot, 2 cold, 90.0 % of reads',
        'misses     1',
        'puts       4',
        'deletes    1',
        'evictions  5',
        'expired    6',
        'lost       0',
        'kv         1 block, 2.0 KiB, 8 evicted, 9 lost',
        'kv tokens  256 of 300 asked for were held',
        '',
      ].join('\n'),
    );
    assert.equal(JSON.parse((await run('stats', '--json')).out).hits.hot, 7);
    assert.equal(
      (await run('adapters')).out,
      [
        'ID         NAME      BACKEND  STATE       MEMORY                BUSY  QUEUE  RESTARTS',
        'adapter-0  Some GPU  vulkan   ready       1.0 KiB of 2.0 GiB  12.5 %      2         1',
        'adapter-1  icd.json  -        restarting  0 B of 0 B           0.0 %      0        12',
        '',
      ].join('\n'),
    );
    assert.equal(JSON.parse((await run('adapters', '--json')).out).adapters[1].restarts, 12);
  });
});

describe('kv load', () => {
  const numbers = [1, 2, -3];
  const loaded = joinParts(
    tensorParts(
      ['k', 'v'].map((name) => ({ name, dtype: 'F16', shape: [1, 1, 2, 64], data: new Uint8Array(256).fill(7) })),
    ),
  );
  let asked: Record<string, unknown>[];
  beforeEach(() => {
    asked = [];
    server.override = async (request, answer) => {
      asked.push(JSON.parse(Buffer.concat(await request.toArray()).toString()));
      answer.writeHead(200, { 'content-length': String(loaded.length) }).end(loaded);
      return true;
    };
  });

  test('takes tokens as a list, as a text, or from a safetensors file', async () => {
    const tokens = new Uint8Array(Int32Array.from(numbers).buffer);
    const inside = joinParts(tensorParts([{ name: 'tokens', dtype: 'I32', shape: [3], data: tokens }]));
    await writeFile(join(folder, 'text'), ' 1 2\n-3\n');
    await writeFile(join(folder, 'json'), '[1, 2, -3]');
    await writeFile(join(folder, 'inside'), inside);
    for (const word of ['1,2,-3', 'text', 'json', 'inside']) {
      const { code, out, err } = await run('kv', 'load', word, '--model', 'm', '--out', 'kv', '--force');
      assert.deepEqual([err, code], ['', 0], word);
      assert.match(out, /^loaded 2 of 3 tokens for m: \S+ B of F16 into kv\n$/);
    }
    const wanted = { model: 'm', tokens: numbers, dtype: 'F16' };
    assert.deepEqual(asked, [wanted, wanted, wanted, wanted]);
    assert.deepEqual(new Uint8Array(await readFile(join(folder, 'kv'))), loaded);
  });

  test('sends salt and dtype, and tells in JSON what came', async () => {
    const { out } = await run('kv', 'load', '1', '--model', 'm', '--salt', 's', '--out', 'kv', '--json');
    assert.deepEqual(asked, [{ model: 'm', salt: 's', tokens: [1], dtype: 'F16' }]);
    assert.deepEqual(JSON.parse(out), {
      ...{ model: 'm', file: 'kv', bytes: loaded.length, tokens: 1, matchedTokens: 2, dtype: 'F16' },
      shape: { layers: 1, kvHeads: 1, dim: 64 },
    });
  });

  test('--out - writes to stdout, and nothing else does', async () => {
    const { code, bytes, err } = await run('kv', 'load', '1', '--model', 'm', '--out', '-');
    assert.deepEqual([new Uint8Array(bytes), err, code], [loaded, '', 0]);
  });

  test('says what holds no tokens, before it asks', async () => {
    await writeFile(join(folder, 'words'), '1 two 3');
    await writeFile(join(folder, 'large'), '4294967296');
    for (const [word, message] of [
      ['none', /kv load none: there is no file none, and it is no list of tokens as 1,2,3\./],
      ['data', /data is no regular file/],
      ['words', /words holds "two"; tokens are whole numbers of 32 bits/],
      ['large', /large holds "4294967296"; tokens/],
      ['x.bin', /x\.bin holds no tensor tokens, I32 \[n\]/],
    ] as const)
      assertFails(await run('kv', 'load', word, '--model', 'm', '--out', 'kv'), 1, message);
    await writeFile(join(folder, 'mine'), 'mine');
    assertFails(await run('kv', 'load', '1', '--model', 'm', '--out', 'mine'), 1, /mine exists\. Use --force/);
    assert.equal(asked.length, 0);
  });

  test('leaves no file behind where the answer is cut', async () => {
    server.override = (_request, answer) => {
      answer.writeHead(200, { 'content-length': String(loaded.length) }).write(loaded.subarray(0, -10));
      setTimeout(() => answer.destroy(), 50);
      return true;
    };
    const cut = await run('kv', 'load', '1', '--model', 'm', '--out', 'kv');
    assertFails(cut, 1, /kv load 1: The answer to POST \S+ ended after \d+ of \d+ bytes\. Try again/);
    assert.deepEqual(await files(), []);
  });

  test('answers 4 where nothing is held', async () => {
    server.override = (_request, answer) => {
      refuse(answer, problem('kv_unknown', 'Nothing is held.'));
      return true;
    };
    const message =
      /^blatam: kv load 1,2: nothing is held of these 2 tokens for m\. Store them: npx blatam kv store\n$/;
    assertFails(await run('kv', 'load', '1,2', '--model', 'm', '--out', 'kv'), 4, message);
  });
});

describe('kv store', () => {
  test('says what holds no KV before it sends anything', async () => {
    const message = /kv store x\.bin: x\.bin holds no KV of a token sequence\. .*lacks tokens and k and v/;
    assertFails(await run('kv', 'store', 'x.bin', '--model', 'm'), 1, message);
    assertFails(await ended(start(['kv', 'store', '-', '--model', 'm']), file), 1, /stdin holds no KV/);
    assert.equal(server.requests.length, 0);
  });
});

describe('who and where', () => {
  test('--key-file goes before BLATAM_KEY_FILE, that before DATA_DIR, and that before ./data', async () => {
    const wrong = join(folder, 'wrong.json');
    await writeFile(wrong, JSON.stringify({ keyid: server.keyid, secret: 'AAAA' }));
    const right = join(folder, 'data/admin-key.json');
    const line = new RegExp(`refused with 401 signature_invalid: .* Is ${wrong} a key of this server\\?`);
    assertFails(await run('stats', '--key-file', wrong), 1, line);
    assertFails(await ended(start(['stats'], { BLATAM_KEY_FILE: wrong })), 1, line);
    assert.equal((await ended(start(['stats', '--key-file', right], { BLATAM_KEY_FILE: wrong }))).code, 0);
    assert.equal((await ended(start(['stats'], { DATA_DIR: join(folder, 'data') }))).code, 0);
    const moved = await ended(start(['stats'], { DATA_DIR: 'elsewhere' }));
    assertFails(moved, 1, /there is no key file elsewhere\/admin-key\.json\. Start the server first \(npm start\)/);
  });

  test('what is no key file is named', async () => {
    for (const content of ['{"keyid":"x"}', 'null', 'text']) {
      await writeFile(join(folder, 'odd.json'), content);
      assertFails(
        await run('stats', '--key-file', 'odd.json'),
        1,
        /odd\.json is no key file: it has no keyid and secret/,
      );
    }
    assertFails(await run('stats', '--key-file', 'data'), 1, /EISDIR: cannot read the key file data/);
  });

  test('a server that does not run is named, with what to do', async () => {
    const closed = await openTensorServer();
    await closed.close();
    const failed = await run('put', 'x', 'x.bin', '--url', closed.url);
    assertFails(
      failed,
      1,
      /^blatam: put x: PUT \S+ reached no server \(ECONNREFUSED\)\. Is it running\? Start it with npm/,
    );
  });
});

describe('used wrongly', () => {
  const cases: [string[], RegExp][] = [
    [
      [],
      /^blatam: Name a command: put, get, ls, rm, stats, adapters, cache stats, cache policy, backup create, backup list, backup verify, backup drill, backup restore, erase, kv store, kv load, kv lookup, kv pin, kv unpin, kv clear, kv events, keys create, keys list, keys rotate, keys revoke, audit\. See npx blatam --help\.$/m,
    ],
    [['copy'], /There is no command copy/],
    [['toString'], /There is no command toString/],
    [['put', 'x'], /put needs FILE/],
    [['put'], /put needs KEY and FILE/],
    [['rm'], /rm needs KEY/],
    [['rm', 'x', 'y'], /rm takes nothing after KEY/],
    [['stats', 'x'], /stats takes nothing more/],
    [['get', 'x', '--ttl', '5'], /get takes no --ttl/],
    [['stats', '--nonsense'], /Unknown option '--nonsense'\. See/],
    [['put', 'x', 'x.bin', '--ttl'], /'--ttl <value>' argument missing/],
    [['put', 'x', 'x.bin', '--ttl', '0'], /put x: --ttl: /],
    [['put', 'x', 'x.bin', '--ttl', ''], /put x: --ttl is empty/],
    [['put', 'x', 'x.bin', '--priority', '101'], /put x: --priority: /],
    [['put', 'x', 'x.bin', '--durability', 'maybe'], /put x: --durability: /],
    [['put', '../x', 'x.bin'], /The key is malformed/],
    [['get', 'a//b'], /The key is malformed/],
    [['stats', '--url', 'localhost:8000'], /does not begin with http/],
    [['kv'], /kv needs one of store, load, lookup, pin, unpin, clear, events\./],
    [['kv', 'drop'], /There is no command kv drop; there are put, /],
    [['kv', 'store'], /kv store needs FILE/],
    [['kv', 'store', 'x.bin'], /kv store needs --model\./],
    [['kv', 'store', 'x.bin', '--model', ''], /kv store x\.bin: --model: /],
    [['kv', 'store', 'x.bin', '--model', 'm', '--codec-k', 'x'.repeat(65)], /--codec-k: /],
    [['kv', 'store', 'x.bin', '--model', 'm', '--rope', '0'], /--rope: /],
    [['kv', 'store', 'x.bin', '--model', 'm', '--rope-scale', '2'], /--rope-scale: says more of rope, which/],
    [['kv', 'load', '1', '--model', 'm'], /kv load needs --out\./],
    [['kv', 'load', '1', '--model', 'm', '--out', ''], /--out is empty/],
    [['kv', 'load', '1', '--model', 'm', '--out', 'x', '--dtype', 'I8'], /--dtype: /],
    [['kv', 'load', '1', '--model', 'm', '--out', '-', '--json'], /both go to stdout/],
  ];
  test('is answered with 2, one line and --help', async () => {
    for (const [args, message] of cases) {
      const io = inProcess();
      const code = await main(args, io);
      assertFails({ code, out: io.out(), err: io.err() }, 2, message);
      assert.match(io.err(), /See npx blatam --help\.\n$/);
    }
    assertFails(await run('copy'), 2, /There is no command copy/);
    assert.equal(server.requests.length, 0);
  });

  test('--help and --version go to stdout', async () => {
    const help = await run('--help');
    assert.deepEqual([help.code, help.err], [0, '']);
    for (const word of ['put KEY FILE', 'get KEY', '--durability', 'BLATAM_KEY_FILE', 'Exit:'])
      assert.ok(help.out.includes(word), word);
    assert.match((await run('--version')).out, /^blatam \d+\.\d+\.\d+\n$/);
  });
});

/** The surroundings of `main`, kept in memory. */
function inProcess(isTTY = false) {
  const out: string[] = [];
  const err: string[] = [];
  const io = {
    env: { BLATAM_URL: server.url, DATA_DIR: join(folder, 'data') },
    stdin: Readable.from([]),
    stdout: new Writable({
      write(chunk, _encoding, done) {
        out.push(String(chunk));
        done();
      },
    }),
    stderr: {
      isTTY,
      write(line: string) {
        err.push(line);
        io.onError(line);
      },
    },
    signal: new AbortController().signal,
    onError: (_line: string) => {},
    out: () => out.join(''),
    err: () => err.join(''),
  };
  return io;
}

describe('progress', () => {
  test('is shown for 8 MiB and more on a terminal, and wiped', async () => {
    const io = inProcess(true);
    await writeFile(join(folder, 'large'), filled(9 * MIB));
    assert.equal(await main(['put', 'x', join(folder, 'large')], io), 0);
    assert.equal(await main(['get', 'x', join(folder, 'back')], io), 0);
    for (const label of ['hashing', 'sending', 'receiving'])
      assert.match(io.err(), new RegExp(`\\r\\u001b\\[K${label} \\d+ % of 9\\.0 MiB`));
    assert.ok(io.err().endsWith('\r\u001b[K'));
    assert.match(io.out(), /^stored x: 9\.0 MiB in 1 tensor.*\nfetched x: 9\.0 MiB into \S+\n$/);
    const small = inProcess(true);
    assert.equal(await main(['put', 'y', join(folder, 'x.bin')], small), 0);
    assert.equal(small.err(), '');
  });
});

describe('words', () => {
  test('size() has a unit that keeps the number short', () => {
    const cases = [0, 1, 1023, 1024, 1536, 1024 ** 2 - 1, 1024 ** 2, 1.5 * 1024 ** 4];
    const words = ['0 B', '1 B', '1023 B', '1.0 KiB', '1.5 KiB', '1.0 MiB', '1.0 MiB', '1.5 TiB'];
    assert.deepEqual(cases.map(size), words);
  });

  test('columns() aligns, and lets no control character through', () => {
    assert.equal(
      columns(
        [
          ['a', '1', 'x'],
          ['bb\u001b[2J', '22', ''],
        ],
        [1],
      ),
      'a        1  x\nbb [2J  22\n',
    );
  });

  test('kvStoreLine() says what is kept of a sequence, how, and what is not', () => {
    const block = { hash: 'a', tokens: 64, tier: 'hot' as const, adapter: 'adapter-0', storedBytes: 512 };
    const coded = { ...block, codecK: 'tq4', codecV: 'tcq3' };
    const blocks = [{ ...block, codecK: 'f16', codecV: 'f16' }, coded, coded];
    const stored = 'K and V, kept as 1.5 KiB (3.1 %) in 3 blocks (1 f16, 2 tq4/tcq3)';
    const line = (given: number, deduplicatedTokens: number) =>
      kvStoreLine('m', given, 256, { storedTokens: 192, deduplicatedTokens, blocks });
    assert.equal(line(192, 0), `stored 192 of 192 tokens for m: 48.0 KiB of ${stored}`);
    assert.equal(
      line(200, 64),
      `stored 192 of 200 tokens for m: 48.0 KiB of ${stored}, 64 of them held before, the last 8 fill no block`,
    );
    assert.match(line(256, 0), /, there was no room for the rest$/);
    assert.equal(
      kvStoreLine('m', 9, 256, { storedTokens: 0, deduplicatedTokens: 0, blocks: [] }),
      'stored 0 of 9 tokens for m: 0 B of K and V, kept as 0 B in 0 blocks, they fill no block',
    );
  });

  test('putLine() says where it is kept, and what is odd about it', () => {
    const answer = {
      key: 'x',
      digest,
      codec: 'planes',
      dtype: null,
      shape: null,
      tensors: 3,
      bytes: 2048,
      storedBytes: 1024,
      tier: 'cold' as const,
      adapter: null,
      priority: 50,
      expiresAt: null,
      deduplicated: true,
      created: false,
    };
    const line =
      'stored x: 2.0 KiB in 3 tensors, kept as 1.0 KiB (planes, cold), replaced what was there, the same bytes were held already';
    assert.equal(putLine('x', answer), line);
  });
});
