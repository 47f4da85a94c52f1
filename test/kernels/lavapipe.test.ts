// Every kernel on Mesa's software adapter, which has f16 and wider subgroups: where the system has it.
import { testKernelsOn } from './suite.ts';

await testKernelsOn('lavapipe');
