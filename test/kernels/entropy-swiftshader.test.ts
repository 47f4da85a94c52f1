// lossless and ec, from values to containers and back, on swiftshader.
import { testEntropyOn } from './entropy.ts';

await testEntropyOn('swiftshader');
