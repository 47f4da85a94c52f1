// The WGSL of a variant: a prelude (what it enables, its element type, its parameters) and the files that the catalogue
// names or has written, in order. A message of the compiler is brought back to the file and line where it belongs.
import { readFileSync } from 'node:fs';
import { type Element, type Kernel, PARAMETERS_MAX, type Variant, type Written } from '../../shaders/kernel.ts';
import { KernelError } from './kernel-choice.ts';

const SHADERS = new URL('../../shaders/', import.meta.url);

export interface KernelText {
  readonly code: string;
  /** `hadamard-lane.wgsl:12` for a line of the code, counted from 1. */
  place(line: number): string;
}

type Parameters = Kernel['parameters'];

export function composeText(
  parameters: Parameters,
  { files, requires = [] }: Variant,
  element: Element,
  immediates: boolean,
  fixed: Readonly<Record<string, number>>,
): KernelText {
  const read = (piece: string | Written) =>
    typeof piece === 'string'
      ? { name: piece, text: readFileSync(new URL(piece, SHADERS), 'utf8') }
      : { name: piece.name, text: piece.text(fixed) };
  const sections = [
    { name: 'the prelude', text: prelude(parameters, requires, element, immediates) },
    ...files.map(read),
  ].map((section) => ({ ...section, lines: section.text.split('\n').length }));
  return {
    code: sections.map(({ text }) => text).join('\n'),
    place(line) {
      let left = line;
      for (const { name, lines } of sections) {
        if (left <= lines) return `${name}:${left}`;
        left -= lines;
      }
      return `line ${line}`;
    },
  };
}

function prelude(parameters: Parameters, requires: readonly string[], element: Element, immediates: boolean): string {
  const fields = Object.entries(parameters);
  if (fields.length > PARAMETERS_MAX) throw new KernelError(`${fields.length} parameters; ${PARAMETERS_MAX} at most`);
  const space = immediates ? 'var<immediate>' : '@group(1) @binding(0) var<uniform>';
  return [
    ...(element === 'f16' ? ['enable f16;'] : []),
    ...(requires.includes('subgroups') ? ['enable subgroups;', 'requires subgroup_id;'] : []),
    ...(requires.includes('subgroup-matrix') ? ['enable chromium_experimental_subgroup_matrix;'] : []),
    ...(immediates ? ['requires immediate_address_space;'] : []),
    // Subgroups are whole, and what decides about a shuffle is the same for all lanes of one.
    ...(requires.includes('subgroups') ? ['diagnostic(off, subgroup_uniformity);'] : []),
    ...(requires.includes('subgroup-matrix') ? ['diagnostic(off, chromium.subgroup_matrix_uniformity);'] : []),
    `alias Element = ${element};`,
    `struct Parameters { ${fields.map(([name, kind]) => `${name}: ${kind}`).join(', ')} }`,
    `${space} parameters: Parameters;`,
  ].join('\n');
}

/** Compiles; throws with every error's file, line and text. */
export async function compileModule(device: GPUDevice, label: string, text: KernelText): Promise<GPUShaderModule> {
  device.pushErrorScope('validation'); // told below, in our words
  const module = device.createShaderModule({ label, code: text.code });
  const [, { messages }] = await Promise.all([device.popErrorScope(), module.getCompilationInfo()]);
  const errors = messages.filter(({ type }) => type === 'error');
  if (errors.length === 0) return module;
  const told = errors.map(({ lineNum, linePos, message }) => `${text.place(lineNum)}:${linePos} ${message}`);
  throw new KernelError(`${label} does not compile: ${told.join('; ')}`);
}
