// What each codec promises: the mean square error of normally distributed vectors, relative to their mean square. As measured
// at a head_dim of 128 (docs/codecs.md); the others are within a tenth of it.
import type { RecordName } from '../../shaders/records.ts';

export const RELATIVE_ERRORS: Readonly<Record<RecordName, number>> = {
  ...{ f32: 0, f16: 4.3e-8, bf16: 2.8e-6, q8r: 4.2e-5, tq4: 0.0093 },
  ...{ tcq4: 0.0042, tcq3: 0.0155, tcq2: 0.0595 },
  ...{ tcq4e: 0.0056, tcq3e: 0.0216, tcq2e: 0.0859 },
  ...{ tcq4f: 0.0048, tcq3f: 0.0174, tcq2f: 0.0642 },
};
