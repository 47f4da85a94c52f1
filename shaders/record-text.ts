// What kernels have to know of the record formats, as WGSL: numbers, words and codes, all from the one table of records.ts.
// Each function takes constants of the pipeline; what is not asked for is gone once that is made.
import type { Written } from './kernel.ts';
import { formatOf, HEAD_DIMS, RECORD_NAMES, RECORDS, type RecordName, recordWords, stretchOf } from './records.ts';

const TRELLISES = RECORD_NAMES.filter((name) => formatOf(name).trellis);

/** `F32`, `TCQ4`, …; record_words, record_stretch and trellis_of of one of them. Stands before record.wgsl. */
export const RECORD_NUMBERS: Written = {
  name: 'the record numbers',
  text: () =>
    [
      ...RECORD_NAMES.map((name) => `const ${name.toUpperCase()} = ${RECORDS[name].number}u;`),
      byCodecAndDim('record_words', RECORD_NAMES, recordWords),
      byCodecAndDim('record_stretch', TRELLISES, stretch),
      'struct Trellis {',
      '  state_bits: u32, shift_bits: u32, multiplier: u32, p0: f32, p1: f32, q: f32, even_octets: bool,',
      '}',
      'fn trellis_of(codec: u32) -> Trellis {',
      '  switch codec {',
      ...TRELLISES.map((name) => `    case ${name.toUpperCase()}: { return ${trellis(name)}; }`),
      '    default: { return Trellis(); }',
      '  }',
      '}',
      '',
    ].join('\n'),
};

function byCodecAndDim(
  called: string,
  names: readonly RecordName[],
  value: (name: RecordName, dim: number) => number,
): string {
  const dims = (name: RecordName) =>
    HEAD_DIMS.map((dim) => `if (dim == ${dim}u) { return ${value(name, dim)}u; }`).join(' ');
  const cases = names.map((name) => `  if (codec == ${name.toUpperCase()}) { ${dims(name)} }`);
  return [`fn ${called}(codec: u32, dim: u32) -> u32 {`, ...cases, '  return 0u;', '}'].join('\n');
}

function stretch(name: RecordName, dim: number): number {
  const { trellis } = formatOf(name);
  return trellis ? stretchOf(trellis, dim, recordWords(name, dim)) : 0;
}

function trellis(name: RecordName): string {
  const {
    stateBits = 0,
    shiftBits = 0,
    multiplier = 0,
    p0 = 0,
    p1 = 0,
    q = 0,
    evenOctets,
  } = formatOf(name).trellis ?? {};
  return `Trellis(${stateBits}u, ${shiftBits}u, ${multiplier}u, ${p0}, ${p1}, ${q}, ${evenOctets === true})`;
}
