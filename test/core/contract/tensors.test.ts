// The safetensors reader and writer: each fault by its code, the reference's own bytes, and a seeded fuzz that allows
// nothing but a sound layout or a problem of this format.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Problem, type ProblemCode } from '../../../core/contract/problems.ts';
import {
  DTYPES,
  type Dtype,
  HEADER_BYTES_MAX,
  headerLength,
  joinParts,
  type Layout,
  parseHeader,
  parseTensors,
  RANK_MAX,
  TENSORS_MAX,
  type TensorData,
  tensorBytes,
  tensorHeader,
  tensorLength,
  tensorParts,
} from '../../../core/contract/tensors.ts';

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

const prefix = (length: number | bigint): Uint8Array => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  return bytes;
};

const fileOf = (header: string | Uint8Array, dataBytes = 0): Uint8Array => {
  const json = typeof header === 'string' ? utf8(header) : header;
  return joinParts([prefix(json.length), json, new Uint8Array(dataBytes)]);
};

const entry = (dtype: string, shape: string, offsets: string): string =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;

const u8 = (length: number, begin: number): string => entry('U8', `[${length}]`, `[${begin},${begin + length}]`);

const DETAIL_CHARS_MAX = 2_000;

function fails(code: ProblemCode, work: () => unknown, detail?: RegExp): void {
  assert.throws(work, (thrown) => {
    assert.ok(thrown instanceof Problem, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.ok(thrown.message.length <= DETAIL_CHARS_MAX, `the detail has ${thrown.message.length} characters`);
    if (detail) assert.match(thrown.message, detail);
    return true;
  });
}

/** What `safetensors.numpy.save` of Python's safetensors 0.8.0 writes for four arrays and one metadata entry. */
const REFERENCE = joinParts([
  Uint8Array.of(0x10, 1, 0, 0, 0, 0, 0, 0),
  utf8(
    '{"__metadata__":{"made":"by hand\\né"},"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},' +
      '"bias":{"dtype":"I32","shape":[2],"data_offsets":[8,16]},' +
      '"none":{"dtype":"F16","shape":[0,3],"data_offsets":[16,16]},' +
      '"mask":{"dtype":"U8","shape":[3],"data_offsets":[16,19]}}    ',
  ),
  Uint8Array.of(0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0),
  Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0),
  Uint8Array.of(7, 8, 9),
]);

const bytesOf = (view: ArrayBufferView): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

const referenceTensors = (): TensorData[] => [
  { name: 'bias', dtype: 'I32', shape: [2], data: bytesOf(Int32Array.of(1, 2)) },
  { name: 'mask', dtype: 'U8', shape: [3], data: Uint8Array.of(7, 8, 9) },
  { name: 'none', dtype: 'F16', shape: [0, 3], data: new Uint8Array(0) },
  { name: 'w', dtype: 'F32', shape: [1, 2], data: bytesOf(Float32Array.of(1.5, -2)) },
];

/** What every layout promises. */
function assertSound(layout: Layout): void {
  let covered = 0;
  for (const tensor of layout.tensors) {
    assert.equal(tensor.begin, covered);
    assert.equal(tensor.end - tensor.begin, tensorLength(tensor));
    covered = tensor.end;
  }
  assert.equal(layout.totalBytes, layout.headerBytes + covered);
  assert.equal(new Set(layout.tensors.map(({ name }) => name)).size, layout.tensors.length);
  for (const value of Object.values(layout.metadata)) assert.equal(typeof value, 'string');
}

describe('headerLength()', () => {
  test('reads a little-endian length, from a view at any offset', () => {
    assert.equal(headerLength(prefix(2)), 2);
    assert.equal(headerLength(prefix(HEADER_BYTES_MAX)), HEADER_BYTES_MAX);
    assert.equal(headerLength(joinParts([Uint8Array.of(9), prefix(0x10203)]).subarray(1)), 0x10203);
  });
  test('refuses fewer than eight bytes', () => {
    fails('tensors_truncated', () => headerLength(new Uint8Array(7)), /7 bytes/);
    fails('tensors_truncated', () => headerLength(new Uint8Array(0)));
  });
  test('refuses a length that no header has', () => {
    fails('tensors_header_malformed', () => headerLength(prefix(0)));
    fails('tensors_header_malformed', () => headerLength(prefix(1)));
  });
  test('refuses a length above the limit, and says it exactly', () => {
    fails('tensors_header_too_large', () => headerLength(prefix(HEADER_BYTES_MAX + 1)), /4194297/);
    fails('tensors_header_too_large', () => headerLength(prefix(2n ** 64n - 1n)), /18446744073709551615/);
  });
});

describe('parseTensors() accepts', () => {
  test('a file of the reference implementation', () => {
    const layout = parseTensors(REFERENCE);
    assert.deepEqual(layout.tensors, [
      { name: 'w', dtype: 'F32', shape: [1, 2], begin: 0, end: 8 },
      { name: 'bias', dtype: 'I32', shape: [2], begin: 8, end: 16 },
      { name: 'none', dtype: 'F16', shape: [0, 3], begin: 16, end: 16 },
      { name: 'mask', dtype: 'U8', shape: [3], begin: 16, end: 19 },
    ]);
    assert.deepEqual({ ...layout.metadata }, { made: 'by hand\né' });
    assert.deepEqual([layout.headerBytes, layout.totalBytes], [280, 299]);
  });
  test('a file without tensors', () => {
    assert.deepEqual(parseTensors(fileOf('{}      ')).tensors, []);
    assert.deepEqual(parseTensors(fileOf('{"__metadata__":{}}')).tensors, []);
  });
  test('a scalar, which has one element', () => {
    assert.deepEqual(parseTensors(fileOf(`{"a":${entry('F64', '[]', '[0,8]')}}`, 8)).tensors[0]?.shape, []);
  });
  test('empty tensors before, between and after others', () => {
    const header = `{"z":${u8(0, 4)},"b":${u8(4, 0)},"y":${u8(0, 0)},"c":${u8(1, 4)},"x":${u8(0, 5)}}`;
    const layout = parseTensors(fileOf(header, 5));
    assertSound(layout);
    assert.deepEqual(
      layout.tensors.map(({ name }) => name),
      ['y', 'b', 'z', 'c', 'x'],
    );
  });
  test('tensors in any order of names, and fields in any order', () => {
    const layout = parseTensors(fileOf(`{"b":${u8(1, 2)},"a":{"data_offsets":[0,2],"shape":[2],"dtype":"I8"}}`, 3));
    assertSound(layout);
    assert.equal(layout.tensors[0]?.name, 'a');
  });
  test('white space wherever JSON has it', () => {
    const header = '{ "a" :\t{"dtype": "U8" ,\n"shape" : [ 1 , 2 ] ,\r"data_offsets":[0 , 2 ]} }  ';
    assertSound(parseTensors(fileOf(header, 2)));
  });
  test('names with escapes and names beyond ASCII', () => {
    const layout = parseTensors(
      fileOf(`{"\\u0061\\n\\"\\ud83d\\ude00":${u8(1, 0)},"é😀":${u8(1, 1)},"":${u8(0, 2)}}`, 2),
    );
    assert.deepEqual(
      layout.tensors.map(({ name }) => name),
      ['a\n"😀', 'é😀', ''],
    );
  });
  test('names of the prototype, as plain names', () => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty'];
    const header = `{${names.map((name, index) => `"${name}":${u8(1, index)}`)},"__metadata__":{"__proto__":"x"}}`;
    const layout = parseTensors(fileOf(header, 4));
    assert.deepEqual(
      layout.tensors.map(({ name }) => name),
      names,
    );
    assert.equal(Object.getPrototypeOf(layout.metadata), null);
    assert.deepEqual(Object.entries(layout.metadata), [['__proto__', 'x']]);
    assert.equal(({} as Record<string, unknown>).x, undefined);
  });
  test('every dtype at its size', () => {
    for (const [dtype, bits] of Object.entries(DTYPES)) {
      const layout = parseTensors(fileOf(`{"a":${entry(dtype, '[2,4]', `[0,${bits}]`)}}`, bits));
      assert.equal(layout.tensors[0]?.dtype, dtype);
    }
  });
  test('the largest whole number', () => {
    const header = utf8(`{"a":${entry('U8', '[0,1125899906842623]', '[0,0]')},"b":${entry('U8', '[0]', '[0,0]')}}`);
    assert.deepEqual(parseHeader(header).tensors[0]?.shape, [0, 2 ** 50 - 1]);
    const far = fileOf(`{"a":${entry('U8', '[0]', '[9007199254740991,9007199254740991]')}}`);
    fails('tensors_gap', () => parseTensors(far), /9007199254740991/);
  });
  test(`a tensor of ${RANK_MAX} dimensions`, () => {
    assertSound(parseTensors(fileOf(`{"a":${entry('U8', `[${Array(RANK_MAX).fill(1)}]`, '[0,1]')}}`, 1)));
  });
});

const malformed: Record<string, string> = {
  'text that is no object': '[]',
  'a space before the object': ' {}',
  'an open object': '{ ',
  'a comma before the end': `{"a":${u8(1, 0)},}`,
  'no comma between entries': `{"a":${u8(1, 0)}"b":${u8(1, 1)}}`,
  'no colon': '{"a"{}}',
  'a name without quotes': '{a:{}}',
  'a name in single quotes': "{'a':{}}",
  'an open string': '{"a',
  'a string that ends in a backslash': '{"a\\',
  'an unknown escape': `{"\\x61":${u8(1, 0)}}`,
  'a short escape': `{"\\u61":${u8(1, 0)}}`,
  'a bare control character in a name': `{"a\nb":${u8(1, 0)}}`,
  'half a surrogate pair': `{"\\ud800":${u8(1, 0)}}`,
  'an entry that is no object': '{"a":1}',
  'an entry that is null': '{"a":null}',
  'an entry that is a list': '{"a":[]}',
  'an unknown field': '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"extra":1}}',
  'no dtype': '{"a":{"shape":[1],"data_offsets":[0,1]}}',
  'no shape': '{"a":{"dtype":"U8","data_offsets":[0,1]}}',
  'no data_offsets': '{"a":{"dtype":"U8","shape":[1]}}',
  'a field twice': '{"a":{"dtype":"U8","shape":[1],"dtype":"U8","data_offsets":[0,1]}}',
  'a field twice, once by escapes': '{"a":{"dtype":"U8","shape":[1],"\\u0064type":"U8","data_offsets":[0,1]}}',
  'an end within a shape': '{"a":{"dtype":"U8","shape":[1,',
  'an end within offsets': '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0',
  'metadata twice': '{"__metadata__":{},"__metadata__":{}}',
  'metadata twice, once by escapes': '{"__metadata__":{},"__metadat\\u0061__":{}}',
  'a metadata key twice': '{"__metadata__":{"a":"1","a":"1"}}',
  'a metadata number': '{"__metadata__":{"a":1}}',
  'a metadata object': '{"__metadata__":{"a":{}}}',
  'metadata that is null': '{"__metadata__":null}',
  'metadata that is text': '{"__metadata__":"a"}',
  'a second object': '{}{}',
  'a newline after the object': '{}\n',
  'a zero byte after the object': '{}\0',
  'a comment': '{}//',
};

const badShapes = [
  '[1.0]',
  '[1.5]',
  '[-1]',
  '[-0]',
  '[1e0]',
  '[1E3]',
  '[01]',
  '[00]',
  '[+1]',
  '[0x1]',
  '["1"]',
  '[true]',
];
badShapes.push('[null]', '[[1]]', '[1,]', '[,1]', '[1 1]', '[9007199254740992]', `[${'9'.repeat(400)}]`);
badShapes.push('1', '"1"', 'null', '{}', '{"length":1}', `[${Array(RANK_MAX + 1).fill(1)}]`);

const badOffsets = [
  '[]',
  '[0]',
  '[0,1,2]',
  '[1,0]',
  '[-1,0]',
  '[0,1.0]',
  '[0,1e0]',
  '["0","1"]',
  '[0,9007199254740992]',
];
badOffsets.push('{}', 'null', '1', '"0,1"', '[[0,1]]', '[0,01]', '[0,1,]');

describe('parseTensors() refuses', () => {
  for (const [fault, header] of Object.entries(malformed)) {
    test(`a header with ${fault}`, () => fails('tensors_header_malformed', () => parseTensors(fileOf(header, 1))));
  }
  for (const shape of badShapes) {
    test(`the shape ${shape.slice(0, 40)}`, () => {
      const file = fileOf(`{"a":${entry('U8', shape, '[0,1]')}}`, 1);
      fails('tensors_shape_malformed', () => parseTensors(file), /tensor "a"/i);
    });
  }
  for (const offsets of badOffsets) {
    test(`the offsets ${offsets}`, () => {
      const file = fileOf(`{"a":${entry('U8', '[1]', offsets)}}`, 1);
      fails('tensors_offsets_malformed', () => parseTensors(file), /tensor "a"/i);
    });
  }
  test('a header that is not UTF-8', () => {
    const header = utf8(`{"a":${u8(1, 0)}}`);
    for (const byte of [0x80, 0xff, 0xc0, 0xed]) {
      fails('tensors_header_malformed', () => parseTensors(fileOf(header.with(2, byte), 1)), /UTF-8/);
    }
  });
  test('a byte order mark', () => {
    fails('tensors_header_malformed', () => parseTensors(fileOf('\ufeff{}')), /begin with \{/);
  });
  test('an unknown dtype, one in lower case, one of the prototype, and one that is no string', () => {
    for (const dtype of ['F31', 'f32', '', 'constructor', '__proto__', 'toString']) {
      const file = fileOf(`{"a":${entry(dtype, '[1]', '[0,1]')}}`, 1);
      fails('tensors_dtype_unknown', () => parseTensors(file), /F8_E4M3FNUZ/);
    }
    const file = fileOf('{"a":{"dtype":5,"shape":[1],"data_offsets":[0,1]}}', 1);
    fails('tensors_dtype_unknown', () => parseTensors(file), /tensor "a"/);
  });
  test('a name twice, also where the entries are equal or the escapes differ', () => {
    fails('tensors_name_duplicate', () => parseTensors(fileOf(`{"a":${u8(1, 0)},"a":${u8(1, 1)}}`, 2)), /"a"/);
    fails('tensors_name_duplicate', () => parseTensors(fileOf(`{"a":${u8(0, 0)},"a":${u8(0, 0)}}`)));
    fails('tensors_name_duplicate', () => parseTensors(fileOf(`{"a":${u8(1, 0)},"\\u0061":${u8(1, 1)}}`, 2)));
    fails('tensors_name_duplicate', () => parseTensors(fileOf(`{"__proto__":${u8(0, 0)},"__proto__":${u8(0, 0)}}`)));
  });
  test('a shape whose bits no number says exactly, even beside a zero', () => {
    const shapes = ['[94906267,94906267]', '[9007199254740991,2]', '[0,9007199254740991,2]', '[1125899906842624]'];
    shapes.push(`[${Array(RANK_MAX).fill(Number.MAX_SAFE_INTEGER)}]`);
    for (const shape of shapes) {
      const file = fileOf(`{"a":${entry('U8', shape, '[0,0]')}}`);
      fails('tensors_shape_overflow', () => parseTensors(file), /Tensor "a"/);
    }
  });
  test('tensors whose sum no number says exactly', () => {
    const length = 2 ** 50 - 1;
    const header = `{${Array.from({ length: 8 }, (_, index) => `"${index}":${u8(length, index * length)}`)}}`;
    fails('tensors_shape_overflow', () => parseHeader(utf8(header)), /together/);
  });
  test('a tensor that does not fill its range', () => {
    for (const offsets of ['[0,0]', '[0,7]', '[0,9]']) {
      const file = fileOf(`{"a":${entry('F32', '[2]', offsets)}}`, 8);
      fails('tensors_length_mismatch', () => parseTensors(file), /"a" needs 8 bytes/);
    }
  });
  test('elements that do not fill whole bytes', () => {
    for (const [dtype, count] of Object.entries({ F4: 3, F6_E2M3: 2, F6_E3M2: 1 })) {
      const file = fileOf(`{"a":${entry(dtype, `[${count}]`, '[0,2]')}}`, 2);
      fails('tensors_length_mismatch', () => parseTensors(file), /whole bytes/);
    }
  });
  test('tensors that overlap', () => {
    fails('tensors_overlap', () => parseTensors(fileOf(`{"a":${u8(4, 0)},"b":${u8(4, 3)}}`, 7)), /"b" begins at 3/);
    fails('tensors_overlap', () => parseTensors(fileOf(`{"a":${u8(4, 0)},"b":${u8(4, 0)}}`, 4)));
    fails('tensors_overlap', () => parseTensors(fileOf(`{"a":${u8(4, 0)},"none":${u8(0, 2)}}`, 4)));
  });
  test('a gap before, between or after tensors', () => {
    fails('tensors_gap', () => parseTensors(fileOf(`{"a":${u8(1, 1)}}`, 2)), /"a" begins at 1/);
    fails('tensors_gap', () => parseTensors(fileOf(`{"a":${u8(1, 0)},"b":${u8(1, 2)}}`, 3)));
    fails('tensors_gap', () => parseTensors(fileOf(`{"a":${u8(1, 0)},"none":${u8(0, 2)}}`, 2)));
  });
  test('a data section that is cut', () => {
    for (const cut of [0, 7, 8, 20, 279, 280, 298]) {
      fails('tensors_truncated', () => parseTensors(REFERENCE.subarray(0, cut)));
    }
  });
  test('bytes after the tensors', () => {
    fails('tensors_trailing', () => parseTensors(joinParts([REFERENCE, new Uint8Array(1)])), /300 bytes/);
    fails('tensors_trailing', () => parseTensors(fileOf('{}', 1)));
  });
  test('a long name without echoing it', () => {
    const file = fileOf(`{"${'n'.repeat(100_000)}":${entry('U8', '[2]', '[0,1]')}}`, 1);
    fails('tensors_length_mismatch', () => parseTensors(file), /"n{100}…"/);
    fails('tensors_dtype_unknown', () =>
      parseTensors(fileOf(`{"a":${entry('\\u0000'.repeat(9_999), '[]', '[0,1]')}}`)),
    );
    fails('tensors_header_malformed', () => parseTensors(fileOf(`{"a":{"${'f'.repeat(100_000)}":1}}`)));
  });
});

describe('parseHeader()', () => {
  const header = utf8(`{"a":${u8(3, 0)}}`);

  test('tells the length of the file when it is not given', () => {
    assert.equal(parseHeader(header).totalBytes, 8 + header.length + 3);
  });
  test('checks the length of the file when it is given', () => {
    const { totalBytes } = parseHeader(header);
    assert.equal(parseHeader(header, totalBytes).totalBytes, totalBytes);
    fails('tensors_truncated', () => parseHeader(header, totalBytes - 1));
    fails('tensors_truncated', () => parseHeader(header, 0));
    fails('tensors_trailing', () => parseHeader(header, totalBytes + 1));
  });
  test('refuses JSON that is too short or too long', () => {
    fails('tensors_header_malformed', () => parseHeader(utf8('')));
    fails('tensors_header_malformed', () => parseHeader(utf8('{')));
    fails('tensors_header_too_large', () => parseHeader(new Uint8Array(HEADER_BYTES_MAX + 1).fill(0x20)));
  });
  test('accepts the largest number of tensors, and not one more', () => {
    const entries = Array.from({ length: TENSORS_MAX }, (_, index) => `"${index.toString(36)}":${u8(0, 0)}`);
    assert.equal(parseHeader(utf8(`{${entries},"__metadata__":{}}`)).tensors.length, TENSORS_MAX);
    fails('tensors_header_too_large', () => parseHeader(utf8(`{${entries},"more":${u8(0, 0)}}`)), /65536/);
  });
  test('reads hostile headers of the largest size without a deep stack', () => {
    const fill = (begin: string, unit: string, end = '') => {
      const count = Math.floor((HEADER_BYTES_MAX - begin.length - end.length) / unit.length);
      return utf8(begin + unit.repeat(count) + end);
    };
    const began = performance.now();
    fails('tensors_header_malformed', () => parseHeader(fill('{', '{')));
    fails('tensors_header_malformed', () => parseHeader(fill('{"a":', '[')));
    fails('tensors_header_malformed', () => parseHeader(fill('', '{"a":')));
    fails('tensors_header_malformed', () => parseHeader(fill('{"a', '\\"')));
    fails('tensors_shape_malformed', () => parseHeader(fill('{"a":{"dtype":"U8","shape":[', '9')));
    fails('tensors_shape_malformed', () => parseHeader(fill('{"a":{"dtype":"U8","shape":[', '1,', '1]')));
    fails('tensors_shape_malformed', () => parseHeader(fill('{"a":{"dtype":"U8","shape":', '[', ' ')));
    fails('tensors_header_malformed', () => parseHeader(fill('{}', ' ', '.')));
    fails('tensors_header_malformed', () => parseHeader(fill('{"__metadata__":{"a":"', '\\ud800', '"}}')));
    const metadata = Object.values(parseHeader(fill('{"__metadata__":{"a":"', '\\u0041', '"}}')).metadata);
    assert.ok((metadata[0]?.length ?? 0) > 600_000);
    assert.ok(performance.now() - began < 5_000, 'ten headers of 4 MiB take far less than 5 s');
  });
});

describe('tensorBytes()', () => {
  test('gives a view into the file, not a copy', () => {
    const layout = parseTensors(REFERENCE);
    for (const info of layout.tensors) {
      const bytes = tensorBytes(REFERENCE, layout, info);
      assert.equal(bytes.buffer, REFERENCE.buffer);
      assert.equal(bytes.length, info.end - info.begin);
    }
    assert.deepEqual(layout.tensors.map((info) => [...tensorBytes(REFERENCE, layout, info)]).at(-1), [7, 8, 9]);
  });
  test('refuses a file that ends before the tensor', () => {
    const layout = parseTensors(REFERENCE);
    const [, bias, , mask] = layout.tensors;
    assert.ok(bias && mask);
    const cut = REFERENCE.subarray(0, -1);
    assert.equal(tensorBytes(cut, layout, bias).length, 8);
    fails('tensors_truncated', () => tensorBytes(cut, layout, mask));
  });
});

describe('tensorLength()', () => {
  test('counts bytes by dtype and shape', () => {
    assert.equal(tensorLength({ name: 'a', dtype: 'F32', shape: [] }), 4);
    assert.equal(tensorLength({ name: 'a', dtype: 'F4', shape: [3, 2] }), 3);
    assert.equal(tensorLength({ name: 'a', dtype: 'F6_E2M3', shape: [4] }), 3);
    assert.equal(tensorLength({ name: 'a', dtype: 'BF16', shape: [7, 0] }), 0);
    assert.equal(tensorLength({ name: 'a', dtype: 'U8', shape: [2 ** 50 - 1] }), 2 ** 50 - 1);
  });
});

describe('tensorParts()', () => {
  test('writes the bytes of the reference implementation', () => {
    assert.deepEqual(joinParts(tensorParts(referenceTensors(), { made: 'by hand\né' })), REFERENCE);
    assert.deepEqual(joinParts(tensorParts([])), fileOf('{}      '));
    assert.deepEqual(joinParts(tensorParts([], {})), fileOf('{}      '));
  });
  test('gives back the very same views, and leaves the list it was given in order', () => {
    const tensors = referenceTensors();
    const [header, ...views] = tensorParts(tensors);
    assert.equal((header?.length ?? 1) % 8, 0);
    assert.deepEqual(
      views.map((view) => tensors.findIndex(({ data }) => data === view)),
      [3, 0, 2, 1],
    );
    assert.deepEqual(tensors, referenceTensors());
  });
  test('round-trips F32, F16, BF16, I32, U8 and empty tensors', () => {
    const dtypes: Dtype[] = ['U8', 'BF16', 'I32', 'F16', 'F32'];
    const tensors = dtypes.flatMap((dtype, at): TensorData[] => {
      const data = Uint8Array.from({ length: (DTYPES[dtype] / 8) * 15 }, (_, index) => (index * 37 + at * 11) % 256);
      const names = { dtype, shape: [3, 5], data };
      return [
        { ...names, name: `${dtype} full` },
        { name: `${dtype} none`, dtype, shape: [4, 0], data: new Uint8Array(0) },
      ];
    });
    const file = joinParts(tensorParts(tensors, { k: 'v' }));
    const layout = parseTensors(file);
    assertSound(layout);
    assert.deepEqual({ ...layout.metadata }, { k: 'v' });
    assert.equal(layout.tensors.length, tensors.length);
    for (const tensor of tensors) {
      const info = layout.tensors.find(({ name }) => name === tensor.name);
      assert.ok(info);
      const bytes = tensorBytes(file, layout, info);
      assert.deepEqual([info.dtype, info.shape, bytes], [tensor.dtype, tensor.shape, tensor.data]);
      assert.equal(bytes.buffer, file.buffer);
      assert.equal(bytes.byteOffset % (DTYPES[tensor.dtype] / 8), 0, 'each tensor is aligned to its element');
    }
  });
  test('round-trips names and metadata that JSON must escape', () => {
    const names = ['__proto__', 'a"b\\c', '\0\n\u2028', 'é😀', '', 'toJSON'];
    const metadata = Object.fromEntries(names.map((name) => [name, name]));
    const tensors = names.map((name): TensorData => ({ name, dtype: 'U8', shape: [], data: Uint8Array.of(1) }));
    const layout = parseTensors(joinParts(tensorParts(tensors, metadata)));
    assert.deepEqual(layout.tensors.map(({ name }) => name).toSorted(), names.toSorted());
    assert.deepEqual(Object.entries(layout.metadata), Object.entries(metadata));
  });
  test('refuses data that does not fit dtype and shape', () => {
    const tensor = { name: 'a', dtype: 'F32', shape: [2] } as const;
    fails('tensors_length_mismatch', () => tensorParts([{ ...tensor, data: new Uint8Array(7) }]), /needs 8 bytes/);
    fails('tensors_length_mismatch', () =>
      tensorParts([{ ...tensor, dtype: 'F4', shape: [3], data: new Uint8Array(2) }]),
    );
  });
});

describe('tensorHeader()', () => {
  const one = { name: 'a', dtype: 'U8', shape: [1] } as const;

  test('lays tensors out in the given order', () => {
    const header = tensorHeader([one, { name: 'b', dtype: 'F32', shape: [2] }]);
    assert.deepEqual(
      parseHeader(header.subarray(8)).tensors.map(({ name, begin, end }) => [name, begin, end]),
      [
        ['a', 0, 1],
        ['b', 1, 9],
      ],
    );
  });
  test('refuses what the reader would refuse', () => {
    fails('tensors_name_duplicate', () => tensorHeader([one, one]), /"a"/);
    fails('tensors_header_malformed', () => tensorHeader([{ ...one, name: '__metadata__' }]));
    fails('tensors_header_malformed', () => tensorHeader([{ ...one, name: '\ud800' }]));
    fails('tensors_header_malformed', () => tensorHeader([one], { a: '\udc00' }));
    fails('tensors_dtype_unknown', () => tensorHeader([{ ...one, dtype: 'toString' as Dtype }]));
    for (const shape of [[-1], [1.5], [Number.NaN], [2 ** 53], Array<number>(RANK_MAX + 1).fill(1)]) {
      fails('tensors_shape_malformed', () => tensorHeader([{ ...one, shape }]));
    }
    fails('tensors_shape_overflow', () => tensorHeader([{ ...one, shape: [2 ** 50] }]));
  });
  test('refuses a header that the reader would find too large', () => {
    const many = Array.from({ length: TENSORS_MAX + 1 }, (_, index) => ({ ...one, name: `${index}` }));
    fails('tensors_header_too_large', () => tensorHeader(many), /65536/);
    fails('tensors_header_too_large', () => tensorHeader([one], { a: 'x'.repeat(HEADER_BYTES_MAX) }));
  });
});

/** Seeded numbers (xorshift), each below `bound`. */
function randomFrom(seed: number): (bound: number) => number {
  let state = seed | 0 || 1;
  return (bound) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % bound;
  };
}

const SCRAPS = [
  '"',
  '\\',
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  ' ',
  '\n',
  '0',
  '-1',
  '1e3',
  '.5',
  'null',
  '\\u0061',
  '😀',
  '""',
];
SCRAPS.push(
  '9007199254740992',
  '"__metadata__":{},',
  '"__proto__"',
  '"shape":[0],',
  '"dtype":"U8",',
  `"w":${u8(1, 0)},`,
);

type Random = (bound: number) => number;

const splice = (bytes: Uint8Array, at: number, removed: number, added: Uint8Array): Uint8Array =>
  joinParts([bytes.subarray(0, at), added, bytes.subarray(Math.min(bytes.length, at + removed))]);

/** A valid file of up to five tensors, as its JSON and its data. */
function validFile(random: Random): { json: Uint8Array; data: Uint8Array } {
  if (random(4) === 0) return { json: REFERENCE.subarray(8, 280), data: REFERENCE.subarray(280) };
  const dtypes = Object.keys(DTYPES) as Dtype[];
  const tensors = Array.from({ length: random(6) }, (_, index): TensorData => {
    const dtype = dtypes[random(dtypes.length)] ?? 'U8';
    const shape = [random(4), ...Array.from({ length: random(3) }, () => 1 + random(3)), 8];
    const name = `${SCRAPS[random(SCRAPS.length)]}${index}`;
    return { name, dtype, shape, data: new Uint8Array(tensorLength({ name, dtype, shape })) };
  });
  const [header = new Uint8Array(8), ...views] = tensorParts(tensors, random(2) === 0 ? {} : { format: 'pt' });
  return { json: header.subarray(8), data: joinParts(views) };
}

/** One small damage to the bytes. */
function damage(bytes: Uint8Array, random: Random): Uint8Array {
  const at = random(bytes.length);
  const scrap = utf8(SCRAPS[random(SCRAPS.length)] ?? '');
  const ways = [
    () => bytes.with(at, random(256)),
    () => bytes.with(at, 0x30 + random(10)),
    () => splice(bytes, at, 1 + random(4), new Uint8Array(0)),
    () => splice(bytes, at, 0, scrap),
    () => splice(bytes, at, scrap.length, scrap),
    () => splice(bytes, at, 0, bytes.subarray(at, at + random(80))),
  ];
  return ways[random(ways.length)]?.() ?? bytes;
}

/** A whole entry taken out, or said again under another name. */
function damageEntries(json: Uint8Array, random: Random): Uint8Array {
  const text = new TextDecoder().decode(json);
  const entries = text.match(/"[^"]*":\{"dtype[^}]*\},/g) ?? [];
  const entry = entries[random(entries.length || 1)] ?? '';
  return utf8(text.replace(entry, () => (random(2) === 0 ? '' : `${entry}"again${entry.slice(1)}`)));
}

/** A damaged file. Most keep a right header length, so that the fault lies deeper. */
function damagedFile(random: Random): Uint8Array {
  const { json, data } = validFile(random);
  let damaged = random(8) === 0 ? damageEntries(json, random) : json;
  for (let rest = random(4); rest > 0 && damaged.length > 0; rest--) damaged = damage(damaged, random);
  const file = joinParts([prefix(damaged.length), damaged, data]);
  const way = random(16);
  if (way === 0) return damage(file, random);
  if (way === 1) return file.subarray(0, random(file.length));
  if (way === 2) return joinParts([file, new Uint8Array(1 + random(9))]);
  return file;
}

/** A layout must say what JSON.parse reads, for a file without repeated names reads the same everywhere. */
function assertSame(file: Uint8Array, layout: Layout): void {
  const json: Record<string, unknown> = JSON.parse(new TextDecoder().decode(file.subarray(8, layout.headerBytes)));
  const entries = layout.tensors.map(({ name, dtype, shape, begin, end }): [string, unknown] => [
    name,
    { dtype, shape, data_offsets: [begin, end] },
  ]);
  const { __metadata__: metadata = {}, ...tensors } = json;
  assert.deepEqual({ ...layout.metadata }, metadata);
  assert.deepEqual(tensors, Object.fromEntries(entries));
}

describe('fuzz', () => {
  const seed = Number(process.env.SEED ?? 20_260_101);
  const rounds = Number(process.env.FUZZ_ROUNDS ?? 3_000);

  test(`parseTensors() gives a sound layout or a problem of safetensors (SEED=${seed}, ${rounds} rounds)`, (t) => {
    const random = randomFrom(seed);
    const outcomes: Record<string, number> = {};
    for (let round = 0; round < rounds; round++) {
      const file = damagedFile(random);
      const outcome = outcomeOf(file, `round ${round} of SEED=${seed}`);
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    }
    t.diagnostic(JSON.stringify(outcomes));
  });
});

function outcomeOf(file: Uint8Array, round: string): string {
  let layout: Layout;
  try {
    layout = parseTensors(file);
  } catch (thrown) {
    assert.ok(thrown instanceof Problem && thrown.code.startsWith('tensors_'), `${round}: ${thrown}`);
    assert.ok(thrown.message.length <= DETAIL_CHARS_MAX, round);
    return thrown.code;
  }
  assertSound(layout);
  assert.equal(layout.totalBytes, file.length, round);
  assertSame(file, layout);
  const tensors = layout.tensors.map((info) => ({ ...info, data: tensorBytes(file, layout, info) }));
  assertSound(parseTensors(joinParts(tensorParts(tensors, layout.metadata))));
  return 'layout';
}
