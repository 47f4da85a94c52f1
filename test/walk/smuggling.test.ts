// Requests as bytes of a connection that two readers could take for different requests: the edge on Node refuses each, and what
// hides behind it is never answered.
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { adminKey, type Blatam, signed, startBlatam } from '../support/blatam.ts';

let blatam: Blatam;
before(async () => {
  blatam = await startBlatam();
});
after(() => blatam?.stop());

/** All that comes until the other side closes, or answers as often as `answers`. */
function exchange(bytes: string, answers = 2): Promise<string> {
  const { hostname, port } = new URL(blatam.edge);
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect(Number(port), hostname, () => socket.write(bytes, 'latin1'));
    socket.setTimeout(20_000, () => socket.destroy());
    socket.setEncoding('latin1').on('data', (more: string) => {
      text += more;
      if ([...text.matchAll(/HTTP\/1\.1 \d+/g)].length >= answers) socket.destroy();
    });
    socket.on('error', reject).on('close', () => resolve(text));
  });
}

const HIDDEN = 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n';
const begun = (fields: string) => `POST /v1/tensors:batch HTTP/1.1\r\nHost: x\r\n${fields}\r\n\r\n`;

for (const [what, bytes] of [
  ['two lengths', `${begun(`Content-Length: ${HIDDEN.length}\r\nContent-Length: 0`)}${HIDDEN}`],
  [
    'content-length and transfer-encoding',
    `${begun('Content-Length: 5\r\nTransfer-Encoding: chunked')}0\r\n\r\n${HIDDEN}`,
  ],
  ['the same the other way', `${begun(`Transfer-Encoding: chunked\r\nContent-Length: 5`)}0\r\n\r\n${HIDDEN}`],
  ['an encoding that is not the last', `${begun('Transfer-Encoding: chunked, identity')}0\r\n\r\n${HIDDEN}`],
  ['an unknown encoding', `${begun('Transfer-Encoding: xchunked')}0\r\n\r\n${HIDDEN}`],
  ['a space before the colon', `${begun('Transfer-Encoding : chunked')}0\r\n\r\n${HIDDEN}`],
  ['a length with a sign', `${begun('Content-Length: +0')}${HIDDEN}`],
  ['a length in hex', `${begun('Content-Length: 0x0')}${HIDDEN}`],
  ['a list of lengths', `${begun('Content-Length: 0, 0')}${HIDDEN}`],
  ['a folded line', `${begun('X-Name: a\r\n Transfer-Encoding: chunked')}0\r\n\r\n${HIDDEN}`],
  ['a lone carriage return', `${begun('X-Name: a\rTransfer-Encoding: chunked')}0\r\n\r\n${HIDDEN}`],
  ['a zero byte', `${begun('X-Name: a\0b')}${HIDDEN}`],
  ['a chunk longer than numbers', `${begun('Transfer-Encoding: chunked')}fffffffffffffffff\r\n${HIDDEN}`],
  ['a chunk of no length', `${begun('Transfer-Encoding: chunked')}-1\r\n${HIDDEN}`],
  ['more fields than are read', begun(`X-Name: ${'x'.repeat(70_000)}`)],
] as const)
  test(`${what}: refused, and nothing behind it is answered`, async () => {
    const text = await exchange(bytes).catch((error: NodeJS.ErrnoException) => {
      assert.equal(error.code, 'ECONNRESET');
      return '';
    });
    const statuses = [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status));
    assert.ok(
      statuses.every((status) => status >= 400 && status < 500),
      text,
    );
    assert.ok(!text.includes('"alive"'), text);
  });

test('a signed request with a field that came twice is refused, whatever was signed', async () => {
  const url = `${blatam.edge}/v1/tensors`;
  const fields = Object.entries(await signed(adminKey(blatam.dataDir), 'GET', url)).map(
    ([name, value]) => `${name}: ${value}`,
  );
  const send = (more: string) =>
    exchange(`GET /v1/tensors HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${fields.join('\r\n')}\r\n${more}\r\n`, 1);
  const text = await send('x-deadline-ms: 5000\r\nx-deadline-ms: 1\r\n');
  assert.match(text, /^HTTP\/1\.1 400 /);
  assert.match(text, /header_malformed/);
});

test('every answer carries what keeps a browser from running or keeping it, streamed or not', async () => {
  const key = adminKey(blatam.dataDir);
  const url = `${blatam.edge}/v1/tensors`;
  for (const answer of [
    await fetch(`${blatam.edge}/healthz`),
    await fetch(url),
    await fetch(url, { headers: await signed(key, 'GET', url) }),
  ]) {
    assert.equal(answer.headers.get('x-content-type-options'), 'nosniff');
    assert.equal(answer.headers.get('content-security-policy'), "default-src 'none'; frame-ancestors 'none'");
    assert.equal(answer.headers.get('cache-control'), 'no-store');
    assert.equal(answer.headers.get('access-control-allow-origin'), null);
    await answer.body?.cancel();
  }
});
