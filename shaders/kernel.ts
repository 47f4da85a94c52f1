// What a kernel says of itself: its bindings and how many bytes each needs, what is fixed when it is compiled (constants,
// tuning, element type), what changes from run to run (parameters), and the variants that compute the same in different
// ways. Types, and the few functions that entries are written with; what there is stands in catalogue.ts.
// A variant must give what every other gives: the same bits where the kernel says so, else within its tolerance.

/** What an adapter may have. `software` is one that runs on the processor, where barriers are dear and lanes are loops. */
export type Capability = 'subgroups' | 'shader-f16' | 'subgroup-matrix' | 'software';
export type Element = 'u32' | 'f32' | 'f16';
export const ELEMENT_BYTES: Readonly<Record<Element, number>> = { u32: 4, f32: 4, f16: 2 };

/** A dimension of a dispatch has at most so many workgroups on every adapter. */
export const WORKGROUPS_MAX = 65_535;
/** Bindings are read and written in units of this many bytes; a range has to hold the last unit entirely. */
export const UNIT_BYTES = 16;
/** What immediates have room for on every adapter that has them: 16 parameters of 4 bytes. */
export const PARAMETERS_MAX = 16;

type Numbers<K extends string> = Readonly<Record<K, number>>;

/** All overrides of a pipeline. */
export type Fixed<C extends string> = Numbers<C> & { readonly WORKGROUP: number } & Readonly<Record<string, number>>;

export interface Binding<P extends string, C extends string = never> {
  readonly access: 'read' | 'write';
  /** How much of it is touched, from the range's beginning; checked before each dispatch, whatever the adapter checks. */
  readonly bytes: (parameters: Numbers<P>, elementBytes: number, constants: Numbers<C>) => number;
}

/** WGSL that is not a file but written for each pipeline: tables of numbers, and steps without loops. */
export interface Written {
  /** As a file's, for messages. */
  readonly name: string;
  readonly text: (fixed: Readonly<Record<string, number>>) => string;
}

export interface Variant<P extends string = string, C extends string = never> {
  readonly name: string;
  /** In shaders/, joined in this order, with what is written among them. */
  readonly files: readonly (string | Written)[];
  readonly requires?: readonly Capability[];
  /** Of subgroups, if it is made for just so many. */
  readonly lanes?: number;
  /** Those of the kernel's that it is made for; all, if it does not say. */
  readonly elements?: readonly Element[];
  /** Not chosen where the adapter has one of these, unless it is asked for by name or nothing else fits. */
  readonly avoids?: readonly Capability[];
  /** Overrides that change the speed and not the result; WORKGROUP is one of every variant's. */
  readonly tuning: { readonly WORKGROUP: number } & Readonly<Record<string, number>>;
  /** For which numbers this variant is made; all, if it does not say. */
  readonly fits?: (parameters: Numbers<P>) => boolean;
  /** Which tuning works, beyond what the adapter's limits say. */
  readonly worksWith?: (fixed: Fixed<C>) => boolean;
  /** A count is spread over two dimensions as needed; a pair is taken as it is. */
  readonly workgroups: (parameters: Numbers<P>, fixed: Fixed<C>) => number | readonly [number, number];
}

export interface Kernel<
  B extends string = string,
  P extends string = string,
  C extends string = string,
  E extends Element = Element,
> {
  readonly about: string;
  /** In the order of their numbers in group 0. */
  readonly bindings: Readonly<Record<B, Binding<P, C>>>;
  readonly parameters: Readonly<Record<P, 'u32' | 'f32'>>;
  /** Overrides that change the result, with their defaults. */
  readonly constants: Numbers<C>;
  /** The first is the default. */
  readonly elements: readonly E[];
  /** Best first. */
  readonly variants: readonly Variant<P, C>[];
}

/** The names come from `parameters`, `constants` and `bindings`; whatever else uses them is held to them. */
export const define = <B extends string, P extends string, C extends string, const E extends Element>(kernel: {
  readonly about: string;
  readonly parameters: Readonly<Record<P, 'u32' | 'f32'>>;
  readonly constants: Numbers<C>;
  readonly bindings: Readonly<Record<B, Binding<NoInfer<P>, NoInfer<C>>>>;
  readonly elements: readonly E[];
  readonly variants: readonly Variant<NoInfer<P>, NoInfer<C>>[];
}): Kernel<B, P, C, E> => kernel;

/** What of `whole` there is in parts of `part`, the last one begun counting as one. */
export const parts = (whole: number, part: number): number => Math.ceil(whole / part);
