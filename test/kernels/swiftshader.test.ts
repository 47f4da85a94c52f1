// Every kernel on the software adapter that comes from npm: always there, on linux-x64.
import { testKernelsOn } from './suite.ts';

await testKernelsOn('swiftshader');
