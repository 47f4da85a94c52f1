// The kernels of what is entropy-coded: `lossless` and `ec`. core/codec/lossless.ts and core/codec/ec.ts say what the
// bytes are, and are their reference: the same bytes, for ec where the steps are the same. All fields of a container are read
// with care: whatever stands there, nothing outside the ranges is touched.
//
// To encode: symbols are counted and the table made of the counts (lossless), or scales are taken (ec); then every lane
// leaves its stream in a slot of `work`, the lengths of all in front; a directory is made of the lengths, and the streams
// are gathered behind it. To decode: every lane finds its stream by the directory. `faults` has a word for each lane, 0 where
// its stream ended as it must; it finds most damage, the checksum all.
import { define, parts, type Variant } from './kernel.ts';

/** Streams of a block of lossless, and fours of values that a stream of a full block has. */
export const LOSSLESS_LANES = 32;
export const LOSSLESS_LANE_FOURS = 256;
/** The constant FORMAT, and the kind in a container's header. */
export const LOSSLESS_FORMAT = { f16: 1, bf16: 2, f32: 3 } as const;
/** Vectors of a block of ec; channels that a stream of it has. */
export const EC_BLOCK = 64;
export const EC_LANE_CHANNELS = 16;
/** The constant AXIS, and the axis in a container's header. */
export const EC_AXIS = { channels: 0, vectors: 1 } as const;
export const EC_CLASS_COUNT = 16;
/** Words that a stream may take before it is gathered: of values that cost the most, each with a value that stands apart. */
export const LOSSLESS_SLOT = 356;
export const EC_SLOT = 2404;

/** As if values had two bytes: for those of four this is more than is touched. */
const losslessStreams = (bytes: number) => parts(bytes, 8 * LOSSLESS_LANE_FOURS * LOSSLESS_LANES) * LOSSLESS_LANES;
const ecLanes = (p: EcShape) => parts(p.vectors, EC_BLOCK) * (p.dim / EC_LANE_CHANNELS);
const ecStreams = (p: EcShape) => ecLanes(p) + parts(p.vectors, EC_BLOCK);
/** Lengths of all streams, in whole units of 16 bytes, then the slots. */
export const workBytes = (streams: number, slot: number): number => parts(streams, 4) * 16 + streams * slot * 4;
const directoryWords = (perBlock: number) => 1 + parts(perBlock, 2);

type EcShape = Readonly<Record<'vectors' | 'dim', number>>;
const software = { avoids: ['software'] } as const;

/** Units of 16 bits come and go by a branch, on GPUs, or without one, where lanes are parts of a register. */
function coding<P extends string, C extends string>(
  files: (form: string) => readonly string[],
  lanes: (p: Readonly<Record<P, number>>) => number,
): Variant<P, C>[] {
  const workgroups: Variant<P, C>['workgroups'] = (p, { WORKGROUP }) => parts(lanes(p), WORKGROUP);
  return [
    { name: 'branch', files: files('branch'), ...software, tuning: { WORKGROUP: 32 }, workgroups },
    { name: 'select', files: files('select'), tuning: { WORKGROUP: 32 }, workgroups },
  ];
}

export const ENTROPY_KERNELS = {
  'lossless-count': define({
    about: 'counts the symbols of f16, bf16 or f32 in `parts` parts of 256 counters, to be added up',
    bindings: {
      source: { access: 'read', bytes: (p) => p.bytes },
      counts: { access: 'write', bytes: (p) => p.parts * 1024 },
    },
    parameters: { bytes: 'u32', parts: 'u32' },
    constants: { FORMAT: LOSSLESS_FORMAT.f16 },
    elements: ['u32'],
    variants: [
      {
        name: 'workgroup',
        files: ['flat.wgsl', 'lossless-four.wgsl', 'lossless-count-workgroup.wgsl'],
        ...software,
        tuning: { WORKGROUP: 256 },
        workgroups: (p) => p.parts,
      },
      {
        name: 'lane',
        files: ['flat.wgsl', 'lossless-four.wgsl', 'lossless-count-lane.wgsl'],
        tuning: { WORKGROUP: 16 },
        workgroups: (p, { WORKGROUP }) => parts(p.parts, WORKGROUP),
      },
    ],
  }),

  'lossless-encode': define({
    about: 'codes the symbols of f16, bf16 or f32: streams in slots of 356 words, their lengths in front',
    bindings: {
      source: { access: 'read', bytes: (p) => p.bytes },
      encoding: { access: 'read', bytes: () => 1024 },
      work: { access: 'write', bytes: (p) => workBytes(losslessStreams(p.bytes), LOSSLESS_SLOT) },
    },
    parameters: { bytes: 'u32' },
    constants: { FORMAT: LOSSLESS_FORMAT.f16 },
    elements: ['u32'],
    variants: coding<'bytes', 'FORMAT'>(
      (form) => [
        'flat.wgsl',
        'lossless-four.wgsl',
        `rans-write-${form}.wgsl`,
        'rans-write.wgsl',
        'lossless-encode.wgsl',
      ],
      (p) => losslessStreams(p.bytes),
    ),
  }),

  'lossless-rest': define({
    about: 'puts what lossless does not code into its place in the container, before word `directory`',
    bindings: {
      source: { access: 'read', bytes: (p) => p.bytes },
      container: { access: 'write', bytes: (p) => p.directory * 4 },
    },
    parameters: { bytes: 'u32', rest: 'u32', directory: 'u32' },
    constants: { FORMAT: LOSSLESS_FORMAT.f16 },
    elements: ['u32'],
    variants: [
      {
        name: 'apart',
        files: ['flat.wgsl', 'lossless-rest.wgsl'],
        ...software,
        tuning: { WORKGROUP: 256, PER: 1 },
        workgroups: (p, { WORKGROUP, PER = 1 }) => Math.max(1, parts(p.bytes, 8 * WORKGROUP * PER)),
      },
      {
        name: 'beside',
        files: ['flat.wgsl', 'lossless-rest.wgsl'],
        tuning: { WORKGROUP: 64, PER: 16 },
        workgroups: (p, { WORKGROUP, PER = 1 }) => Math.max(1, parts(p.bytes, 8 * WORKGROUP * PER)),
      },
    ],
  }),

  'streams-directory': define({
    about: 'makes the directory of streams in slots, at word `directory` of the container',
    bindings: {
      work: { access: 'read', bytes: (p) => p.blocks * p.perBlock * 4 },
      container: { access: 'write', bytes: (p) => (p.directory + p.blocks * directoryWords(p.perBlock)) * 4 },
    },
    parameters: { blocks: 'u32', perBlock: 'u32', directory: 'u32' },
    constants: {},
    elements: ['u32'],
    variants: [
      { name: 'workgroup', files: ['streams-directory.wgsl'], tuning: { WORKGROUP: 64 }, workgroups: () => 1 },
    ],
  }),

  'streams-gather': define({
    about:
      'copies streams from their slots to where the directory has them; drops what would lie at or above word `end`',
    bindings: {
      work: { access: 'read', bytes: (p) => workBytes(p.blocks * p.perBlock, p.slot) },
      container: {
        access: 'write',
        bytes: (p) => Math.max(p.end, p.directory + p.blocks * directoryWords(p.perBlock)) * 4,
      },
    },
    parameters: { blocks: 'u32', perBlock: 'u32', slot: 'u32', directory: 'u32', end: 'u32' },
    constants: {},
    elements: ['u32'],
    variants: [
      {
        name: 'together',
        files: ['flat.wgsl', 'streams.wgsl', 'streams-gather.wgsl'],
        ...software,
        tuning: { WORKGROUP: 128, TOGETHER: 32 },
        workgroups: (p, { WORKGROUP, TOGETHER = 1 }) => parts(p.blocks * p.perBlock * TOGETHER, WORKGROUP),
      },
      {
        name: 'lane',
        files: ['flat.wgsl', 'streams.wgsl', 'streams-gather.wgsl'],
        tuning: { WORKGROUP: 32, TOGETHER: 1 },
        workgroups: (p, { WORKGROUP, TOGETHER = 1 }) => parts(p.blocks * p.perBlock * TOGETHER, WORKGROUP),
      },
    ],
  }),

  'lossless-decode': define({
    about: 'decodes f16, bf16 or f32 from a container whose streams end at word `end`',
    bindings: {
      container: { access: 'read', bytes: (p) => p.end * 4 },
      decoding: { access: 'read', bytes: () => 8192 },
      content: { access: 'write', bytes: (p) => p.bytes },
      faults: { access: 'write', bytes: (p) => losslessStreams(p.bytes) * 4 },
    },
    parameters: { bytes: 'u32', rest: 'u32', directory: 'u32', end: 'u32' },
    constants: { FORMAT: LOSSLESS_FORMAT.f16 },
    elements: ['u32'],
    variants: coding<'bytes' | 'rest' | 'directory' | 'end', 'FORMAT'>(
      (form) => ['flat.wgsl', 'streams.wgsl', `rans-read-${form}.wgsl`, 'lossless-decode.wgsl'],
      (p) => losslessStreams(p.bytes),
    ),
  }),

  'ec-scale': define({
    about: 'means and classes of the channels or vectors of blocks of ec, a word each',
    bindings: {
      source: { access: 'read', bytes: ecBytes },
      steps: { access: 'read', bytes: (p) => parts(p.vectors, EC_BLOCK) * 16 },
      classes: { access: 'read', bytes: () => EC_CLASS_COUNT * 257 * 4 },
      scales: { access: 'write', bytes: (p) => parts(p.vectors, EC_BLOCK) * Math.max(EC_BLOCK, p.dim) * 4 },
    },
    parameters: { vectors: 'u32', dim: 'u32' },
    constants: { AXIS: EC_AXIS.vectors },
    elements: ['u32'],
    variants: [
      {
        name: 'lane',
        files: ['flat.wgsl', 'ec-count.wgsl', 'ec-scale.wgsl'],
        tuning: { WORKGROUP: 32 },
        workgroups: (p, { WORKGROUP }) => parts(parts(p.vectors, EC_BLOCK) * Math.max(EC_BLOCK, p.dim), WORKGROUP),
      },
    ],
  }),

  'ec-encode': define({
    about: 'codes blocks of ec: streams in slots of 2404 words, their lengths in front',
    bindings: {
      source: { access: 'read', bytes: ecBytes },
      steps: { access: 'read', bytes: (p) => parts(p.vectors, EC_BLOCK) * 16 },
      classes: { access: 'read', bytes: () => EC_CLASS_COUNT * 257 * 4 },
      scales: { access: 'read', bytes: (p) => parts(p.vectors, EC_BLOCK) * Math.max(EC_BLOCK, p.dim) * 4 },
      work: { access: 'write', bytes: (p) => workBytes(ecStreams(p), EC_SLOT) },
    },
    parameters: { vectors: 'u32', dim: 'u32' },
    constants: { AXIS: EC_AXIS.vectors },
    elements: ['u32'],
    variants: coding<'vectors' | 'dim', 'AXIS'>(
      (form) => ['flat.wgsl', 'ec-count.wgsl', `rans-write-${form}.wgsl`, 'rans-write.wgsl', 'ec-encode.wgsl'],
      ecStreams,
    ),
  }),

  'ec-decode': define({
    about: 'decodes blocks of ec to f32 from a container whose streams end at word `end`',
    bindings: {
      container: { access: 'read', bytes: (p) => p.end * 4 },
      classes: { access: 'read', bytes: () => EC_CLASS_COUNT * 2049 * 4 },
      content: { access: 'write', bytes: ecBytes },
      faults: { access: 'write', bytes: (p) => ecLanes(p) * 4 },
    },
    parameters: { vectors: 'u32', dim: 'u32', end: 'u32' },
    constants: { AXIS: EC_AXIS.vectors },
    elements: ['u32'],
    variants: coding<'vectors' | 'dim' | 'end', 'AXIS'>(
      (form) => ['flat.wgsl', 'streams.wgsl', `rans-read-${form}.wgsl`, 'ec-decode.wgsl'],
      ecLanes,
    ),
  }),
};

function ecBytes(p: EcShape): number {
  return p.vectors * p.dim * 4;
}
