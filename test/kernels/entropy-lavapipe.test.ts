// lossless and ec, from values to containers and back, on lavapipe.
import { testEntropyOn } from './entropy.ts';

await testEntropyOn('lavapipe');
