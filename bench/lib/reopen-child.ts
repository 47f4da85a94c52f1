// Opens the store in a folder, in a process of its own, and says as JSON how long that took and what memory it needs.
import { openStore } from '../../core/store/store.ts';

const path = process.argv[2] ?? '';
const collect = (globalThis as { gc?: () => void }).gc ?? (() => {});
collect();
const before = process.memoryUsage().rss;
const cpuBefore = process.cpuUsage();
const begun = performance.now();
const store = await openStore(path, () => {});
const ms = performance.now() - begun;
const { user, system } = process.cpuUsage(cpuBefore);
await store.settle();
collect();
const rssBytes = process.memoryUsage().rss - before;
process.stdout.write(JSON.stringify({ ms, cpuMs: (user + system) / 1000, rssBytes, entries: store.found.length }));
await store.close();
