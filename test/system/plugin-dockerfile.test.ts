import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { checkout } from '../lab/built.ts';
import { bareRoot, type Engine } from '../lab/engine.ts';
import { startHost } from '../lab/host.ts';
import { copyCheckout } from '../lab/installation.ts';
import { unlessLong } from '../lab/long.ts';
import { ManagedPluginLab, pluginName } from '../lab/managed-plugin.ts';
import { outputOf, ownEnvironment } from '../lab/process.ts';
import { startProxy } from '../lab/proxy.ts';
import { words } from '../lab/words.ts';

const skip = unlessLong();
const certificates = '/etc/ssl/certs/ca-certificates.crt';
const epoch = '1700000000';

/** The engine that builds, and by which of its two builders. */
interface Kind {
  readonly engine: Engine;
  readonly builder: 'classic' | 'BuildKit';
}

// The newer client has BuildKit by a plugin of its own only, buildx, which Debian's docker-cli goes without.
const kinds: readonly Kind[] = [
  { engine: '20.10', builder: 'classic' },
  { engine: '20.10', builder: 'BuildKit' },
  { engine: '28.5', builder: 'classic' },
];

for (const kind of kinds) {
  const name = `plugin/Dockerfile, Docker ${kind.engine}, ${kind.builder}`;
  describe(name, { timeout: 1_200_000, skip }, () => whatMustBeTrueOf(kind));
}

function whatMustBeTrueOf({ engine, builder }: Kind): void {
  let lab: ManagedPluginLab;
  before(async () => {
    lab = new ManagedPluginLab(await startHost({ engine }));
    await lab.start();
    await lab.host.run(words`rm -f /usr/local/bin/calico-cnm`);
    await copyCheckout(lab.host, '/root/calico-cnm');
    await importNodeImage(lab);
  });
  after(async () => lab[Symbol.asyncDispose]());

  test('the commands at its head make the plugin', async () => {
    using proxy = await startProxy(lab.host.machine);
    const { http_proxy: address = '' } = proxy.environment;
    const way = `--network host --build-arg http_proxy=${address} --build-arg https_proxy=${address}`;
    const script = commandsAtHead()
      .replaceAll('$(git log -1 --format=%ct)', epoch)
      .replaceAll('DIR', '/root/plugin')
      .replaceAll('NAME:TAG', pluginName)
      .replace('docker build', `docker build ${way}`);
    await lab.host.run(['sh', '-ec', `cd /root/calico-cnm; ${script}`], {
      timeoutMs: 900_000,
      env: { DOCKER_BUILDKIT: builder === 'BuildKit' ? '1' : '0' },
    });
  });

  test('its files are those of plugin/build', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'calico-build-'));
    try {
      await outputOf([`${checkout}/plugin/build`, join(folder, 'plugin')], {
        timeoutMs: 600_000,
        env: { ...ownEnvironment(), SOURCE_DATE_EPOCH: epoch },
      });
      const wanted = await filesOf(join(folder, 'plugin'));
      const present = await filesOf(lab.host.path('/root/plugin'));
      assert.deepEqual([...wanted.symmetricDifference(present)], []);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('it serves Docker', async () => {
    await lab.docker('plugin', 'enable', pluginName);
    await lab.isWellAgain();
    await lab.tour();
    assert.ok(await lab.reaches('inside', 'app'));
  });
}

/** The commands that the Dockerfile itself says. */
function commandsAtHead(): string {
  const lines = readFileSync(`${checkout}/plugin/Dockerfile`, 'utf8').split('\n');
  const commands = lines.filter((line) => line.startsWith('#   ')).map((line) => line.slice(4));
  assert.ok(commands.length > 0);
  return commands.join('\n');
}

/** Name, kind, mode, owner, time, target and content of all below a folder, a line each. */
async function filesOf(folder: string): Promise<ReadonlySet<string>> {
  const look = `cd "$0"
    find . -mindepth 1 -printf '%P %y %m %U:%G %T@ %l\\n'
    find . -type f -print0 | xargs -0 sha256sum`;
  return new Set((await outputOf(['sh', '-ec', look, folder])).split('\n'));
}

/**
 * Imports what stands for `node:24-bookworm` of a registry, and has no more than that: a Debian 12 with Node and npm
 * below /usr/local. It trusts what this machine trusts, where downloads go through a gateway.
 */
async function importNodeImage({ host }: ManagedPluginLab): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'calico-node-'));
  try {
    const prefix = join(folder, 'usr/local');
    await outputOf(['npm', 'install', '--global', '--prefix', prefix, 'npm@11.19.1'], {
      timeoutMs: 300_000,
      env: ownEnvironment(),
    });
    copyFileSync(process.execPath, join(prefix, 'bin/node'));
    const changes = ['-c', `ENV NODE_EXTRA_CA_CERTS=${certificates}`];
    if (existsSync(certificates)) {
      await outputOf(['install', '-D', '-m', '644', certificates, join(folder, certificates)]);
    }
    const archive = '/root/node.tar';
    const debian = await bareRoot('bookworm');
    const own = ['./usr/local', './etc/ssl'];
    const excluded = own.map((name) => `--exclude=${name}`);
    for (const members of [
      words`-cf ${host.path(archive)} -C ${debian} ${excluded} .`,
      words`-rf ${host.path(archive)} -C ${folder} ${own}`,
    ]) {
      await outputOf(['tar', ...members], { timeoutMs: 300_000 });
    }
    await host.run(['docker', 'import', ...changes, archive, 'node:24-bookworm'], {
      timeoutMs: 300_000,
    });
    await host.run(['rm', archive]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
