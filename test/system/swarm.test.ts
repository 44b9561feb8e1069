import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { checkCalls, loggedCalls, type LoggedCall } from '../lab/call-log.ts';
import { engines } from '../lab/engine.ts';
import { unlessLong } from '../lab/long.ts';
import { managedPluginFolder, pluginName } from '../lab/managed-plugin.ts';
import { commandBlocks } from '../lab/page.ts';
import { startSwarmLab, type SwarmHost, type SwarmLab } from '../lab/swarm.ts';
import { words } from '../lab/words.ts';

/** No look for a registry, and no patience with a server that ends only by force. */
const swift = '--no-resolve-image --stop-grace-period 1s --restart-delay 0s';
const skip = unlessLong();

/** The commands of docs/swarm.md, block by block. */
const [setUp = [], first = [], published = [], near = []] = commandBlocks('docs/swarm.md');

for (const engine of engines) {
  describe(
    `a swarm of two managers and a worker, Docker ${engine}`,
    { timeout: 600_000, skip: engine === '20.10' && skip },
    () => {
      let lab: SwarmLab;
      before(async () => {
        await managedPluginFolder();
        lab = await startSwarmLab({ engine, hosts: 3 });
        await Promise.all(lab.hosts.map((host) => runBlock(lab, host, setUp)));
        await lab.form(2);
      });
      after(async () => lab[Symbol.asyncDispose]());

      test('a service gets its addresses, and its name leads to all of its tasks', async () => {
        await runBlock(lab, lab.asked, first);
        await lab.runs('app', 3);
        const addresses = [...(await lab.addresses('app', 'web')).values()].flat();
        assert.equal(new Set(addresses).size, 3);
        for (const host of lab.hosts) {
          const [container = assert.fail(`a task runs on ${host.name}`)] = await lab.containers(
            host,
            'app',
          );
          const resolved = await lab.asked.lab.eventually(async () => {
            const shown = await host.lab.docker('exec', container, 'nslookup', 'app');
            return addresses.every((address) => shown.includes(address));
          });
          assert.ok(resolved, `${host.name} knows all tasks`);
        }
      });

      test('tasks reach each other, on one host and on different hosts', async () => {
        await lab.docker('service', 'scale', '-d', 'app=6');
        await lab.runs('app', 6);
        const addresses = [...(await lab.addresses('app', 'web')).values()].flat();
        for (const host of lab.hosts) {
          const [container = ''] = await lab.containers(host, 'app');
          for (const address of addresses) {
            const isReached = () => host.lab.reaches(container, address);
            assert.ok(await host.lab.eventually(isReached), `${address} from ${host.name}`);
          }
        }
      });

      test('ports are published on the hosts of the tasks; containers of docker run use the network', async () => {
        await runBlock(lab, lab.asked, published);
        await lab.runs('edge', 3);
        for (const { host, name } of lab.hosts) {
          const ask =
            'exec 3<>/dev/tcp/127.0.0.1/8000; printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3; cat <&3';
          const serves = async () =>
            (await host.exec(['timeout', '2', 'bash', '-c', ask])).stdout.trim().endsWith('hello');
          assert.ok(await lab.asked.lab.eventually(serves), `port 8000 on ${name}`);
        }
        const [, , worker = assert.fail()] = lab.hosts;
        const [address = ''] = (await lab.addresses('app', 'web')).get(worker) ?? [];
        await worker.lab.client('guest', '--network', 'web');
        assert.ok(await worker.lab.reaches('guest', address));
        await worker.lab.docker('rm', '-f', 'guest');
      });

      test('a virtual address is unreachable, and status reports it; an ingress network is refused', async () => {
        await lab.service('virtual', '--network', 'web', '--replicas', '1');
        await lab.runs('virtual', 1);
        const { status, stdout } = await lab.asked.lab.calicoResult('status');
        assert.equal(status, 1);
        assert.match(stdout, /service virtual: virtual address 10\.65\.\d+\.\d+ is unreachable/);
        assert.match(
          await lab.asked.lab.refused(...words`network create --ingress -d ${pluginName} mesh`),
          /only overlay driver is currently supported for ingress network/,
        );
        await lab.docker('service', 'rm', 'virtual');
        await lab.asked.lab.isWellAgain();
      });

      test('the plain sockets are of scope local, the managed one of scope global', async () => {
        assert.match(await lab.docker('network', 'ls', '-f', 'name=web'), / swarm$/m);
        const plain = await lab.asked.lab.call('NetworkDriver.GetCapabilities');
        assert.equal(plain.body['Scope'], 'local');
      });

      test('a rolling update, and a node that is drained', async () => {
        await lab.docker(
          ...words`service update -d --no-resolve-image --env-add ROUND=2 --update-parallelism 3
        --update-monitor 0s app`,
        );
        assert.ok(await lab.asked.lab.eventually(async () => isUpdated(lab, 'app'), 120_000));
        await lab.runs('app', 6);
        const [, , worker = assert.fail()] = lab.hosts;
        await lab.docker(...words`node update --availability drain ${worker.name}`);
        const isDrained = async () => (await lab.containers(worker, 'app')).length === 0;
        assert.ok(await lab.asked.lab.eventually(isDrained));
        const tasks = await lab.runs('app', 6);
        assert.ok(tasks.every(({ node }) => node !== worker.name));
        await lab.docker(...words`node update --availability active ${worker.name}`);
      });

      test('another manager leads: what runs keeps its address, and what comes gets a free one', async () => {
        const [former, next = assert.fail()] = lab.hosts;
        const kept = new Set([...(await lab.addresses('app', 'web')).values()].flat());
        lab.asked = next;
        await lab.docker('node', 'demote', former?.name ?? '');
        await lab.docker('service', 'scale', '-d', 'app=9');
        await lab.runs('app', 9);
        const now = [...(await lab.addresses('app', 'web')).values()].flat();
        assert.equal(new Set(now).size, 9);
        assert.deepEqual(kept.difference(new Set(now)), new Set());
      });

      test('no address was held twice, and none is left when all is removed', async () => {
        assert.ok((await removeAll(lab)) > 50, 'the log has the calls');
      });
    },
  );
}

describe('node-local networks of a swarm, Docker 20.10', { timeout: 600_000 }, () => {
  let lab: SwarmLab;
  before(async () => {
    await managedPluginFolder();
    lab = await startSwarmLab({ engine: '20.10', hosts: 1 });
    await runBlock(
      lab,
      lab.asked,
      setUp.map((command) => command.replace('CALICO_SCOPE=global ', '')),
    );
    await lab.form(1);
  });
  after(async () => lab[Symbol.asyncDispose]());

  const servesIn = async (subnet: RegExp) => {
    const [container = ''] = await lab.containers(lab.asked, 'agent');
    const address = await lab.asked.lab.address(container, 'near');
    assert.match(address, subnet);
    await lab.asked.lab.client('guest', '--network', 'plain');
    await lab.asked.lab.calico('profile', 'near', 'rule', 'add', 'inbound', 'allow');
    const { lab: asked } = lab.asked;
    assert.ok(await asked.eventually(() => asked.reaches('guest', address)));
    await asked.docker('rm', '-f', 'guest');
  };

  test('a network is made by the configuration of the node', async () => {
    await lab.asked.lab.network('plain');
    await runBlock(lab, lab.asked, near);
    await lab.asked.lab.isWellAgain();
    await lab.runs('agent', 1);
    await servesIn(/^10\.77\.0\./);
  });

  test('it is made again under the same ID when Docker is started again', async () => {
    const id = () => lab.docker('network', 'inspect', '-f', '{{.Id}}', 'near');
    const former = await id();
    await lab.asked.host.stopDocker();
    await lab.asked.host.startDocker();
    await lab.asked.lab.isWellAgain();
    await lab.runs('agent', 1);
    assert.equal(await id(), former);
    await servesIn(/^10\.77\.0\./);
  });

  test('it leaves nothing', async () => {
    await lab.docker('service', 'rm', 'agent');
    const isFree = async () => (await lab.allocatedAddresses()) === 0;
    assert.ok(await lab.asked.lab.eventually(isFree));
  });
});

describe('200 tasks on three managers and a worker', { timeout: 1_200_000, skip }, () => {
  let lab: SwarmLab;
  const died: { readonly host: string; readonly at: number }[] = [];
  let callsBefore: readonly LoggedCall[] = [];
  before(async () => {
    await managedPluginFolder();
    lab = await startSwarmLab({ engine: '28.5', hosts: 4 });
    await Promise.all(lab.hosts.map((host) => runBlock(lab, host, setUp)));
    await lab.form(3);
  });
  after(async () => lab[Symbol.asyncDispose]());

  const everyTaskAnew = async (round: number) => {
    await lab.docker(
      ...words`service update -d --no-resolve-image --env-add ROUND=${String(round)}
        --update-parallelism 20 --update-monitor 0s many`,
    );
    assert.ok(await lab.asked.lab.eventually(async () => isUpdated(lab, 'many'), 240_000));
    await lab.runs('many', 40, 240_000);
  };

  test('forty tasks, all of them made anew', async () => {
    const [command = ''] = first;
    await runBlock(lab, lab.asked, [command]);
    const options = words`--endpoint-mode dnsrr --network web --replicas 40`;
    await lab.service('many', ...options, '--update-failure-action', 'continue');
    await lab.runs('many', 40, 240_000);
    await everyTaskAnew(1);
  });

  test('the leader is lost: another one leads, and its tasks start elsewhere', async () => {
    const [leader = assert.fail(), next = assert.fail()] = lab.hosts;
    await leader.host.killDocker();
    died.push({ host: leader.name, at: Date.now() });
    callsBefore = loggedCalls(leader.name, leader.host.dockerLog());
    lab.asked = next;
    const answers = async () => (await next.host.exec(['docker', 'node', 'ls'])).status === 0;
    assert.ok(await next.lab.eventually(answers, 120_000));
    const areElsewhere = async () =>
      (await lab.tasks('many')).every(({ node }) => node !== leader.name);
    assert.ok(await next.lab.eventually(areElsewhere, 120_000));
    await lab.runs('many', 40, 240_000);
    await everyTaskAnew(2);
  });

  test('it comes back, and a node is drained meanwhile', async () => {
    const [leader = assert.fail(), , , worker = assert.fail()] = lab.hosts;
    await leader.host.startDocker();
    await lab.docker(...words`node update --availability drain ${worker.name}`);
    await everyTaskAnew(3);
    assert.deepEqual(await lab.containers(worker, 'many'), []);
    await lab.docker(...words`node update --availability active ${worker.name}`);
    await everyTaskAnew(4);
  });

  test('no address was held twice, and none is left when all is removed', async () => {
    assert.ok((await removeAll(lab, died, callsBefore)) > 400, 'a task has its address from two');
  });
});

/** Removes all services and networks; then no address is held, by the datastore and by a model of all calls. */
async function removeAll(
  lab: SwarmLab,
  died: readonly { readonly host: string; readonly at: number }[] = [],
  more: readonly LoggedCall[] = [],
): Promise<number> {
  const services = (await lab.docker('service', 'ls', '-q')).split('\n').filter((id) => id !== '');
  await lab.docker('service', 'rm', ...services);
  const isFree = async () => (await lab.allocatedAddresses()) === 0;
  assert.ok(
    await lab.asked.lab.eventually(isFree, 120_000),
    await lab.asked.lab.calico('ipam', 'show', '--show-blocks'),
  );
  const isRemoved = async () =>
    (await lab.asked.host.exec(['docker', 'network', 'rm', 'web'])).status === 0;
  assert.ok(await lab.asked.lab.eventually(isRemoved));
  assert.match(await lab.asked.lab.calico('ipam', 'check'), /^no problems found$/m);
  const calls = lab.hosts.flatMap(({ host, name }) => loggedCalls(name, host.dockerLog()));
  const { problems, left, given } = checkCalls([...more, ...calls], died);
  assert.deepEqual(problems, []);
  assert.deepEqual(left, []);
  return given;
}

async function isUpdated(lab: SwarmLab, service: string): Promise<boolean> {
  const state = await lab.docker('service', 'inspect', '-f', '{{.UpdateStatus.State}}', service);
  return state === 'completed';
}

/** Runs the commands of a block on a host; what stands for the reader's own is filled in. */
async function runBlock(
  lab: SwarmLab,
  { host }: SwarmHost,
  block: readonly string[],
): Promise<void> {
  assert.ok(block.length > 0, 'the block is in the document');
  for (const command of block) {
    const filled = command
      .replaceAll('calico-cnm:0.1', pluginName)
      .replaceAll('http://ETCD:2379', `${lab.etcd.endpoint} CALICO_LOG_LEVEL=debug`)
      .replaceAll('build/plugin', await managedPluginFolder())
      .replaceAll('service create', `service create -d ${swift}`)
      .replaceAll('IMAGE', 'calico-test');
    await host.run(['sh', '-c', filled]);
  }
}
