// A software Vulkan driver for machines without one: SwiftShader and the Vulkan loader, from the npm package
// @sparticuz/chromium (bin/swiftshader.tar.br), unpacked once into the data folder. Nothing of the browser is used.
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';

const PACKAGE = '@sparticuz/chromium';
const BLOCK = 512;

export interface SoftwareDriver {
  /** The Vulkan loader's path. */
  readonly loader: string;
  /** The driver's manifest, for VK_DRIVER_FILES. */
  readonly manifest: string;
}

/** Unpacks it if need be. Throws where the package has no driver for this machine. */
export function unpackSwiftshader(dataDir: string): SoftwareDriver {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new Error(
      `npm carries a software adapter for linux-x64 only, this is ${process.platform}-${process.arch}; ` +
        'install a Vulkan driver (Debian: mesa-vulkan-drivers 23 or newer)',
    );
  const root = packageRoot();
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  const folder = join(dataDir, `swiftshader-${version}`);
  if (!existsSync(folder)) {
    const fresh = `${folder}.${process.pid}.new`;
    rmSync(fresh, { recursive: true, force: true });
    mkdirSync(fresh, { recursive: true });
    const archive = brotliDecompressSync(readFileSync(join(root, 'bin', 'swiftshader.tar.br')));
    for (const file of tarFiles(archive))
      if (/vulkan|vk_/.test(file.name)) writeFileSync(join(fresh, file.name), file.bytes);
    renameSync(fresh, folder);
  }
  return { loader: join(folder, 'libvulkan.so.1'), manifest: join(folder, 'vk_swiftshader_icd.json') };
}

/** The package's folder, from the entry it exports: <root>/build/{cjs,esm}/index. */
const packageRoot = (): string => dirname(dirname(dirname(createRequire(import.meta.url).resolve(PACKAGE))));

/** The plain files of a tar archive without folders. */
function* tarFiles(archive: Buffer): Generator<{ name: string; bytes: Buffer }> {
  const text = (at: number, length: number) => archive.toString('utf8', at, at + length).replace(/\0.*$/s, '');
  for (let at = 0; at + BLOCK <= archive.length && archive[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, 12).trim(), 8);
    const isFile = text(at + 156, 1) === '0' || archive[at + 156] === 0;
    const name = text(at, 100).replace(/^\.\//, '');
    if (isFile && !name.includes('/')) yield { name, bytes: archive.subarray(at + BLOCK, at + BLOCK + size) };
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
}
