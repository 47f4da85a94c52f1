// What kind of work a path asks for: one of a few words, whatever is sent, so that it can be a label of metrics. Pure.

const CLASSES: ReadonlyMap<string, string> = new Map([
  ['tensors:batch', 'batch'],
  ['tensors:claim', 'claims'],
  ['tensors:renew', 'claims'],
  ['tensors:release', 'claims'],
  ['tensors:move', 'cache'],
  ['kv', 'kv'],
  ['cache', 'cache'],
  ['adapters', 'adapters'],
  ['keys', 'keys'],
  ['audit', 'keys'],
  ['backups', 'backups'],
  ['erasures', 'erasures'],
]);
const HEALTH = new Set(['/healthz', '/readyz', '/metrics']);

export function routeClass(path: string): string {
  const [, version, room = '', name] = path.split('/', 4);
  if (version !== 'v1') return HEALTH.has(path) ? 'health' : 'other';
  if (room === 'tensors') return name === undefined ? 'list' : 'tensors';
  return CLASSES.get(room) ?? 'other';
}
