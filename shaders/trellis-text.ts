// The search of a trellis encoder as straight lines of WGSL: one step over all states, each with its level as a literal, the
// cost of each class in a variable of its own, so that a compiler keeps them in registers; arrays and loops over states
// are some ten times slower on software adapters. core/codec/trellis.ts says what is computed, bit by bit.
import type { Written } from './kernel.ts';
import { formatOf, levelsOf, nameOf, recordWords, stretchOf, type Trellis } from './records.ts';

interface Shape extends Trellis {
  readonly dim: number;
  readonly words: number;
  readonly stretch: number;
  /** States whose upper bits are the same, of which only the cheapest goes on. */
  readonly classes: number;
  readonly members: number;
  /** A way back takes so many bits, a power of 2, that words hold whole ones. */
  readonly wayBits: number;
  readonly wayWords: number;
  readonly stepWords: number;
}

function shapeOf({ CODEC = -1, DIM = 0 }: Readonly<Record<string, number>>): Shape {
  const name = nameOf(CODEC);
  const trellis = name && formatOf(name).trellis;
  if (!trellis) throw new RangeError(`CODEC ${CODEC} is no trellis codec`);
  const words = recordWords(name, DIM);
  const classes = 2 ** (trellis.stateBits - trellis.shiftBits);
  const wayBits = trellis.shiftBits === 3 ? 4 : trellis.shiftBits;
  const wayWords = Math.ceil((classes * wayBits) / 32);
  return {
    ...trellis,
    ...{ dim: DIM, words, stretch: stretchOf(trellis, DIM, words) },
    ...{ classes, members: 2 ** trellis.shiftBits },
    ...{ wayBits, wayWords, stepWords: wayWords + Math.ceil(classes / 64) },
  };
}

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** The numbers of a trellis encoder. */
export const TRELLIS_SHAPE: Written = {
  name: 'the shape of the trellis',
  text(fixed) {
    const shape = shapeOf(fixed);
    const numbers = {
      ...{
        RECORD_WORDS: shape.words,
        STRETCH: shape.stretch,
        STATE_BITS: shape.stateBits,
        SHIFT_BITS: shape.shiftBits,
      },
      ...{ CLASSES: shape.classes, MEMBERS: shape.members, WAY_BITS: shape.wayBits },
    };
    return Object.entries(numbers)
      .map(([name, value]) => `const ${name} = ${value}u;\n`)
      .join('');
  },
};

/** What the form with a class to a lane shares in a workgroup: encode-trellis-group.wgsl declares it. */
export function groupBytes(fixed: Readonly<Record<string, number>> & { readonly WORKGROUP: number }): number {
  const { dim, classes, wayBits } = shapeOf(fixed);
  const perLane = 2 + Math.ceil((dim * wayBits) / 32) + Math.ceil(dim / 32) / 2;
  return 4 * (fixed.WORKGROUP * perLane + (fixed.WORKGROUP / classes) * (dim + 2));
}

/** Whether whole vectors fill a workgroup. */
export const isWhole = (fixed: Readonly<Record<string, number>> & { readonly WORKGROUP: number }): boolean =>
  fixed.WORKGROUP % shapeOf(fixed).classes === 0;

export const classesOf = (fixed: Readonly<Record<string, number>>): number => shapeOf(fixed).classes;

/** `search`, and `way_to` and `took_upper`, which read what it left. */
export const TRELLIS_STEPS: Written = {
  name: 'the steps of the trellis',
  text(fixed) {
    const shape = shapeOf(fixed);
    const { dim, classes, stepWords } = shape;
    return [
      `var<private> ways: array<u32, ${(dim - 1) * stepWords}>;`,
      'fn search(vector: u32, exponent: i32, per_half_step: f32) -> u32 {',
      '  var e: i32;',
      ...upTo(classes).map((each) => `  var before_${each} = ${each % 64}u;`),
      `  for (var t = 0u; t < ${dim - 1}u; t++) {`,
      '    let x = search_target(vectors[vector + t], exponent, per_half_step);',
      `    let own = t * ${stepWords}u;`,
      ...cheapest(shape),
      ...keptWays(shape),
      `    if (dropped(t) == ${shape.shiftBits}u) {`,
      ...upTo(classes).map((each) => `      before_${each} = (cost_${each} & 0xffffffc0u) | ${each % 64}u;`),
      '    } else {',
      ...merged(shape),
      '    }',
      '  }',
      `  let x = search_target(vectors[vector + ${dim - 1}u], exponent, per_half_step);`,
      ...cheapest(shape),
      '  var least = 0xffffffffu;',
      '  var last = 0u;',
      ...upTo(classes).map((each) => `  if ((cost_${each} >> 6u) < least) { ${taken(shape, each)} }`),
      '  return last;',
      '}',
      ...readers(shape),
    ].join('\n');
  },
};

/** cost_j: of the cheapest way to class j, its member in the low bits. A class's number stands in the low bits of what it cost
 *  before; where that has fewer bits than a member, the rest is added. */
function cheapest(shape: Shape): string[] {
  const { classes, members } = shape;
  const levels = levelsOf(shape);
  const numbered = members > classes;
  const from = (state: number) => (numbered ? `from_${state % members}` : `before_${state % classes}`);
  const lines = numbered
    ? upTo(members).map((each) => `let from_${each} = before_${each % classes} | ${each - (each % classes)}u;`)
    : [];
  for (const each of upTo(classes)) {
    lines.push(`var cost_${each} = 0xffffffffu;`);
    for (const member of upTo(members)) {
      const state = each * members + member;
      lines.push(
        `e = x - (${8 * (levels[state] ?? 0)}); cost_${each} = min(cost_${each}, ${from(state)} + u32(e * e));`,
      );
    }
  }
  return lines;
}

function keptWays({ classes, members, wayBits, wayWords }: Shape): string[] {
  const perWord = 32 / wayBits;
  return upTo(wayWords).map((word) => {
    const ways = upTo(Math.min(perWord, classes)).map(
      (i) => `((cost_${word * perWord + i} & ${members - 1}u) << ${i * wayBits}u)`,
    );
    return `    ways[own + ${word}u] = ${ways.join(' | ')};`;
  });
}

/** Two classes become one. */
function merged({ classes, wayWords }: Shape): string[] {
  const half = classes / 2;
  const words = upTo(Math.ceil(half / 32));
  const pairs = upTo(half).flatMap((pair) => [
    '      {',
    `        let upper = (cost_${2 * pair + 1} >> 6u) < (cost_${2 * pair} >> 6u);`,
    `        uppers_${pair >> 5} |= select(0u, ${2 ** (pair & 31)}u, upper);`,
    `        let cost = select(cost_${2 * pair}, cost_${2 * pair + 1}, upper) & 0xffffffc0u;`,
    `        before_${pair} = cost | ${pair % 64}u;`,
    `        before_${pair + half} = cost | ${(pair + half) % 64}u;`,
    '      }',
  ]);
  return [
    ...words.map((word) => `      var uppers_${word} = 0u;`),
    ...pairs,
    ...words.map((word) => `      ways[own + ${wayWords + word}u] = uppers_${word};`),
  ];
}

const taken = ({ shiftBits, members }: Shape, each: number) =>
  `least = cost_${each} >> 6u; last = ${each << shiftBits}u | (cost_${each} & ${members - 1}u);`;

function readers({ stepWords, wayWords, wayBits, members }: Shape): string[] {
  const perWord = 32 / wayBits;
  return [
    'fn way_to(t: u32, at: u32) -> u32 {',
    `  return (ways[t * ${stepWords}u + at / ${perWord}u] >> (at % ${perWord}u * ${wayBits}u)) & ${members - 1}u;`,
    '}',
    'fn took_upper(t: u32, at: u32) -> u32 {',
    `  return (ways[t * ${stepWords}u + ${wayWords}u + (at >> 5u)] >> (at & 31u)) & 1u;`,
    '}',
    '',
  ];
}
