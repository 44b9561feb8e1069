import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startEtcd, type Etcd } from '../lab/etcd.ts';
import { unlessLong } from '../lab/long.ts';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';
import { pingFromHost, pingStream, type PingStream } from '../lab/ping-stream.ts';
import { words } from '../lab/words.ts';

/** The data of a host moves to etcd and back, while its containers run and Docker starts more. */
for (const engine of ['20.10', '28.5'] as const) {
  const skip = engine === '28.5' && unlessLong();
  describe(`migration of the datastore, Docker ${engine}`, { timeout: 900_000, skip }, () =>
    whatMustBeTrueOf(engine),
  );
}

function whatMustBeTrueOf(engine: '20.10' | '28.5'): void {
  let lab: NetworkLab;
  let etcd: Etcd;
  let environment: Readonly<Record<string, string>>;
  before(async () => {
    lab = await startLab({ engine, backend: 'nft', datastore: 'sqlite' });
    etcd = await startEtcd({ enter: lab.host.machine.enterNetwork, port: 2379 });
    environment = { ETCD_ENDPOINTS: etcd.endpoint };
    for (const name of ['web', 'gone']) await lab.network(name);
    await lab.server('app', '--net', 'web');
    for (const name of ['one', 'two']) await lab.client(name, '--net', 'web');
  });
  after(async () => {
    await etcd?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  });

  const calico = (env: Readonly<Record<string, string>>, ...argv: readonly string[]) =>
    lab.host.exec(['calico-cnm', ...argv], { env });

  /** Streams between containers, and from the host, which lose nothing during the action. */
  const flowing = async (act: () => Promise<void>) => {
    const [one, app] = await Promise.all([lab.address('one', 'web'), lab.address('app', 'web')]);
    const streams: PingStream[] = [
      await pingStream(lab.host, 'one', app),
      await pingStream(lab.host, 'app', one),
      await pingStream(lab.host, 'two', app),
      pingFromHost(lab.host, one),
    ];
    await act();
    const lost = await Promise.all(streams.map((stream) => stream.lost()));
    assert.deepEqual(lost, [0, 0, 0, 0]);
  };

  /** Starts and removes containers until the action ends; all must succeed. */
  const whileDockerRuns = async (act: () => Promise<void>) => {
    const over = new AbortController();
    const started: string[] = [];
    const churn = async (which: string) => {
      do {
        started.push(
          await lab.docker(...words`run --rm --net web --name ${which} calico-test true`),
        );
      } while (!over.signal.aborted);
    };
    const churns = Promise.all(['c1', 'c2', 'c3'].map(churn));
    await act();
    over.abort();
    await churns;
    return started.length;
  };

  const everythingWorks = async (removed: string) => {
    assert.ok(await lab.reaches('one', await lab.address('app', 'web')));
    const address = await lab.address('two', 'web');
    await lab.docker('restart', '-t', '0', 'two');
    assert.equal(await lab.address('two', 'web'), address);
    assert.ok(await lab.reaches('two', await lab.address('app', 'web')));
    await lab.docker('network', 'rm', removed);
    await lab.network(removed);
    await lab.docker(...words`run --rm --net ${removed} calico-test true`);
    assert.match(
      await lab.host.run(['calico-cnm', 'ipam', 'check'], { env: environmentNow() }),
      /./,
    );
  };
  let isInEtcd = false;
  const environmentNow = () => (isInEtcd ? environment : {});

  const migrates = async (to: 'etcd' | 'sqlite') => {
    const ids = await lab.docker('ps', '-q');
    let runs = 0;
    await flowing(async () => {
      runs = await whileDockerRuns(async () => {
        const { status, stdout, stderr } = await calico(environment, 'datastore', 'migrate', to);
        assert.equal(status, 0, stdout + stderr);
        assert.match(stdout, /^this host uses \S+ \(\d+ values moved/);
        isInEtcd = to === 'etcd';
      });
    });
    assert.ok(runs >= 3);
    assert.equal(await lab.docker('ps', '-q'), ids, 'no container was recreated');
    await everythingWorks('gone');
  };

  test('to etcd, and nothing is lost: no packet, no docker run, no address', async () => {
    await migrates('etcd');
    const { checks } = await lab.status();
    const found = checks.find(({ name }) => name === 'datastore setting');
    assert.match(found?.remedy ?? '', /ETCD_ENDPOINTS=http/);
  });

  test('commands and a daemon with the former setting are refused with the setting that they need', async () => {
    const { status, stderr } = await calico({}, 'get', 'profile');
    assert.equal(status, 1);
    assert.match(stderr, /was moved to http:\S+; to use it, write ETCD_ENDPOINTS=http/);
    await lab.host.stopCalico();
    await assert.rejects(lab.host.startCalico(), /to use it, write ETCD_ENDPOINTS=http/);
    await lab.host.startCalico(environment);
    assert.match((await calico(environment, 'get', 'profile')).stdout, /web/);
  });

  test('back to the file, and there again, with the same data', async () => {
    await migrates('sqlite');
    if (unlessLong() !== false) return;
    await migrates('etcd');
    await migrates('sqlite');
  });

  test('a target with data of others is refused, and nothing has changed', async () => {
    etcd.etcdctl('put', '/calico/other', 'x');
    etcd.etcdctl('del', '/calico/resources/', '--prefix');
    const { status, stderr } = await calico(environment, 'datastore', 'migrate', 'etcd');
    assert.equal(status, 1);
    assert.match(stderr, /has other data \(\S+\), nothing was moved/);
    etcd.etcdctl('del', '', '--prefix');
    await everythingWorks('gone');
  });

  const skip = unlessLong();
  test(
    'a daemon that is killed during the move goes on with one of the two, and the move can be repeated',
    { skip },
    async () => {
      await flowing(async () => {
        for (const after of [/locked/, /copied/, /verified/, /using/]) {
          const [from, to] = isInEtcd
            ? (['etcd', 'sqlite'] as const)
            : (['sqlite', 'etcd'] as const);
          const moving = lab.host.spawn(['calico-cnm', 'datastore', 'migrate', to], environment);
          assert.ok(await lab.eventually(async () => after.test(moving.output())), moving.output());
          await lab.host.killCalico();
          await moving.exited;
          isInEtcd = await restarts(from);
        }
        if (isInEtcd) await calico(environment, 'datastore', 'migrate', 'sqlite');
        isInEtcd = false;
      });
      await everythingWorks('gone');
    },
  );

  /** Starts the daemon, with the other setting if it refuses this one; returns whether it uses etcd. */
  const restarts = async (from: 'etcd' | 'sqlite'): Promise<boolean> => {
    try {
      await lab.host.startCalico(from === 'etcd' ? environment : {});
    } catch (error) {
      assert.match(String(error), /to use it, (write|remove) ETCD_ENDPOINTS/);
      await lab.host.startCalico(from === 'etcd' ? {} : environment);
    }
    await lab.docker(...words`run --rm --net web calico-test true`);
    const { checks } = await lab.status();
    const used = checks.find(({ name }) => name === 'datastore')?.detail ?? '';
    return used.startsWith('http');
  };
}
