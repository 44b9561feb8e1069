import { readFile } from 'node:fs/promises';
import { engineRoot } from './engine.ts';
import type { Machine } from './machine.ts';
import { outputOf } from './process.ts';

/** The image of the test containers: busybox and its commands only. Its command waits forever. */
export const testImage = 'calico-test';

/**
 * Imports the test image into the machine's Docker if it does not have it. It is imported from an archive created
 * here: nothing is built and nothing is pulled. All engines get the busybox of Debian 12.
 */
export async function ensureTestImage(machine: Machine): Promise<void> {
  const input = await busyboxArchive('hello\n');
  await importImage(machine, testImage, { input, command: ['tail', '-f', '/dev/null'] });
}

/** Gives it an image of the public one's name that has, like that, busybox and no page. */
export async function ensureBusyboxImage(machine: Machine): Promise<void> {
  await importImage(machine, 'busybox', {
    input: await busyboxArchive(undefined),
    command: ['sh'],
  });
}

async function importImage(
  machine: Machine,
  name: string,
  image: { readonly input: Uint8Array; readonly command: readonly string[] },
): Promise<void> {
  if ((await machine.exec(['docker', 'image', 'inspect', name])).status === 0) return;
  const changes = ['-c', `CMD ${JSON.stringify(image.command)}`];
  await machine.run(['docker', 'import', ...changes, '-', name], { input: image.input });
}

async function busyboxArchive(page: string | undefined): Promise<Uint8Array> {
  const busybox = `${await engineRoot('20.10')}/usr/bin/busybox`;
  const applets = (await outputOf([busybox, '--list'])).split('\n');
  return testImageArchive(await readFile(busybox), applets, page);
}

/**
 * Gives the machine's Docker an image under each of the names, in the place of what a registry has there: its
 * containers serve the test image's page on all of the ports, and stop at once.
 */
export async function makeStandIns(
  machine: Pick<Machine, 'run'>,
  names: readonly string[],
  ports: readonly number[],
): Promise<void> {
  const serve = `trap 'exit 0' TERM; for port in ${ports.join(' ')}; do httpd -p $port -h /www; done
    tail -f /dev/null & wait`;
  const command = `CMD ${JSON.stringify(['sh', '-c', serve])}`;
  const container = await machine.run(['docker', 'create', testImage]);
  const image = await machine.run(['docker', 'commit', '-c', command, container]);
  await machine.run(['docker', 'rm', container]);
  for (const name of names) await machine.run(['docker', 'tag', image, name]);
}

/** Returns the archive of the image's files, in ustar format. */
export function testImageArchive(
  busybox: Uint8Array,
  applets: readonly string[],
  page: string | undefined = 'hello\n',
): Uint8Array {
  const links = applets.filter((applet) => applet !== 'busybox');
  return Buffer.concat([
    ...['bin/', 'etc/', 'root/', ...(page === undefined ? [] : ['www/'])].map((name) =>
      entry({ name, mode: 0o755, type: '5' }),
    ),
    entry({ name: 'tmp/', mode: 0o1777, type: '5' }),
    file('bin/busybox', busybox, 0o755),
    ...links.map((applet) =>
      entry({ name: `bin/${applet}`, mode: 0o777, type: '2', target: 'busybox' }),
    ),
    file('etc/passwd', Buffer.from('root:x:0:0:root:/root:/bin/sh\n'), 0o644),
    ...(page === undefined ? [] : [file('www/index.html', Buffer.from(page), 0o644)]),
    Buffer.alloc(1024),
  ]);
}

interface Entry {
  readonly name: string;
  readonly mode: number;
  /** 0 a file, 2 a symbolic link, 5 a folder. */
  readonly type: '0' | '2' | '5';
  readonly target?: string;
  readonly sizeBytes?: number;
}

function file(name: string, content: Uint8Array, mode: number): Buffer {
  const padding = Buffer.alloc((512 - (content.length % 512)) % 512);
  const header = entry({ name, mode, type: '0', sizeBytes: content.length });
  return Buffer.concat([header, content, padding]);
}

/** One header block (POSIX.1-1988, ustar interchange format). */
function entry({ name, mode, type, target = '', sizeBytes = 0 }: Entry): Buffer {
  const header = Buffer.alloc(512);
  const octal = (value: number, width: number) => `${value.toString(8).padStart(width - 1, '0')}\0`;
  header.write(name, 0);
  header.write(octal(mode, 8), 100);
  header.write(octal(0, 8), 108);
  header.write(octal(0, 8), 116);
  header.write(octal(sizeBytes, 12), 124);
  header.write(octal(0, 12), 136);
  header.write(' '.repeat(8), 148);
  header.write(type, 156);
  header.write(target, 157);
  header.write('ustar\u000000', 257);
  const checksum = header.reduce((sum, byte) => sum + byte, 0);
  header.write(`${checksum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}
