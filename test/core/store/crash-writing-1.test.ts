// Part 1 of the lives of writers that are killed; see crash-writers.ts.
import { crashWriters } from '../../support/crash-writers.ts';

crashWriters(0);
