import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
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
import { startProxy, type Proxy } from '../lab/proxy.ts';
import { words } from '../lab/words.ts';

const skip = unlessLong();
const certificates = '/etc/ssl/certs/ca-certificates.crt';
const epoch = '1700000000';
// One that Node 24 has come with, and not the one that plugin/build wants: the image has what it has.
const npmOfImage = 'npm@11.6.2';

/** The engine that builds, and by which of its two builders. */
interface Kind {
  readonly engine: Engine;
  readonly builder: 'classic' | 'BuildKit';
}

const kinds: readonly Kind[] = [
  { engine: '20.10', builder: 'classic' },
  { engine: '20.10', builder: 'BuildKit' },
  { engine: '28.5', builder: 'classic' },
  { engine: '28.5', builder: 'BuildKit' },
];

describe('plugin/Dockerfile', { timeout: 3_600_000, skip }, () => {
  let folder: string;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'calico-dockerfile-'));
    await archiveNodeImage(folder);
    await outputOf([`${checkout}/plugin/build`, join(folder, 'plugin')], {
      timeoutMs: 600_000,
      env: { ...ownEnvironment(), SOURCE_DATE_EPOCH: epoch },
    });
  });
  after(() => rmSync(folder, { recursive: true }));

  for (const kind of kinds) {
    describe(`Docker ${kind.engine}, ${kind.builder}`, { timeout: 1_200_000 }, () =>
      whatMustBeTrueOf(kind, (name) => join(folder, name)),
    );
  }
});

function whatMustBeTrueOf({ engine, builder }: Kind, made: (name: string) => string): void {
  const things = new AsyncDisposableStack();
  let lab: ManagedPluginLab;
  let proxy: Proxy;
  before(async () => {
    lab = things.use(new ManagedPluginLab(await startHost({ engine })));
    await lab.start();
    proxy = things.use(await startProxy(lab.host.machine));
    if (engine === '28.5' && builder === 'BuildKit') await installBuildx();
    await copyCheckout(lab.host, '/root/calico-cnm');
    const archive = '/root/node.tar';
    await copyFile(made('node.tar'), lab.host.path(archive));
    const changes = ['-c', `ENV NODE_EXTRA_CA_CERTS=${certificates}`];
    await lab.host.run(['docker', 'import', ...changes, archive, 'node:24-bookworm'], {
      timeoutMs: 300_000,
    });
    await lab.host.run(['rm', archive]);
  });
  after(() => things.disposeAsync());

  /** The newer client has BuildKit by a plugin, which Debian's docker-cli recommends. */
  async function installBuildx(): Promise<void> {
    const apt = `apt-get -qq -o Acquire::Check-Valid-Until=false`;
    const script = `${apt} update && ${apt} install -y --no-install-recommends docker-buildx`;
    await lab.host.run(['sh', '-ec', script], { timeoutMs: 300_000, env: proxy.environment });
  }

  test('the commands at its head make the plugin', async () => {
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
    const wanted = await filesOf(made('plugin'));
    const present = await filesOf(lab.host.path('/root/plugin'));
    assert.deepEqual([...wanted.symmetricDifference(present)], []);
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
 * Makes node.tar in the folder, which stands for `node:24-bookworm` of a registry and has no more than that: a Debian
 * 12 with Node and npm below /usr/local. It trusts what this machine trusts, where downloads go through a gateway.
 */
async function archiveNodeImage(folder: string): Promise<void> {
  const root = join(folder, 'node');
  const prefix = join(root, 'usr/local');
  await outputOf(['npm', 'install', '--global', '--prefix', prefix, npmOfImage], {
    timeoutMs: 300_000,
    env: ownEnvironment(),
  });
  await copyFile(process.execPath, join(prefix, 'bin/node'));
  if (existsSync(certificates)) {
    await outputOf(['install', '-D', '-m', '644', certificates, join(root, certificates)]);
  }
  const archive = join(folder, 'node.tar');
  const debian = await bareRoot('bookworm');
  const own = ['./usr/local', './etc/ssl'];
  const excluded = own.map((name) => `--exclude=${name}`);
  for (const members of [
    words`-cf ${archive} -C ${debian} ${excluded} .`,
    words`-rf ${archive} -C ${root} ${own}`,
  ]) {
    await outputOf(['tar', ...members], { timeoutMs: 300_000 });
  }
}
