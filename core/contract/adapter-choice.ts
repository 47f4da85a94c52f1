// An entry of GPU_ADAPTERS: where an adapter is looked for, and which one is meant if there are several.
//   system            whatever this machine's own drivers offer
//   swiftshader       the software adapter from npm
//   /path/icd.json    one Vulkan driver, by its manifest
// and behind it, joined by & where both are asked:
//   ?name=PART           the one whose name contains this, upper and lower case told apart; %2C is a comma
//   ?pci=0000:01:00.0    the one in this slot: tells cards of the same name apart
// Pure. The same entry may stand in a list several times: several processes on one adapter.

export interface AdapterChoice {
  readonly source: string;
  readonly name?: string;
  readonly pci?: string;
}

const PCI = /^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;
const isSource = (source: string): boolean => source === 'system' || source === 'swiftshader' || source.startsWith('/');

/** Throws, with what would be right, for an entry that is none. */
export function parseAdapter(entry: string): AdapterChoice {
  const [source = '', ...rest] = entry.split('?');
  const shown = entry.slice(0, 100);
  if (!isSource(source)) throw new RangeError(`${shown} is no system, no swiftshader and no path that begins with /`);
  if (rest.length > 1) throw new RangeError(`${shown} has a second ?; join name and pci by &`);
  const asked = new URLSearchParams(rest[0] ?? '');
  for (const [word, value] of asked) {
    if (word !== 'name' && word !== 'pci')
      throw new RangeError(`${shown} asks for ${word.slice(0, 50)}; name and pci are known`);
    if (value === '' || asked.getAll(word).length > 1)
      throw new RangeError(`${shown} must have ${word} once, and with a value`);
  }
  const name = asked.get('name');
  const pci = asked.get('pci')?.toLowerCase();
  if (pci !== undefined && !PCI.test(pci)) throw new RangeError(`${shown}: a slot is written like 0000:01:00.0`);
  if (pci !== undefined && source === 'swiftshader') throw new RangeError(`${shown}: swiftshader is in no slot`);
  return { source, ...(name === null ? {} : { name }), ...(pci === undefined ? {} : { pci }) };
}
