import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startHost } from '../lab/host.ts';
import { NetworkLab } from '../lab/network-lab.ts';
import { words } from '../lab/words.ts';

for (const kind of [
  { engine: '20.10', backend: 'nft' },
  { engine: '28.5', backend: 'legacy' },
] as const) {
  describe(`a host with running bridge stacks, Docker ${kind.engine}`, { timeout: 600_000 }, () => {
    let lab: NetworkLab;
    before(async () => {
      lab = new NetworkLab(await startHost({ ...kind, uplink: true }), undefined, {});
      await lab.host.startDocker();
      await lab.docker('network', 'create', 'stack');
      await lab.server('web', '--net', 'stack');
      await lab.client('client', '--net', 'stack');
      await lab.client('plain');
    });
    after(async () => lab[Symbol.asyncDispose]());

    /** A hundred pings a second from a container, until ended; answers how many were sent, and which were lost. */
    async function stream(from: string, to: string) {
      const pid = await lab.docker('inspect', '-f', '{{.State.Pid}}', from);
      const running = lab.host.spawn(['nsenter', '-t', pid, '-n', 'ping', '-i', '0.01', to]);
      return async () => {
        running.signal('SIGINT');
        await running.exited;
        const [, sent] = /(\d+) packets transmitted/.exec(running.output()) ?? [];
        const answers = new Set(
          [...running.output().matchAll(/icmp_seq=(\d+) /g)].map(([, n]) => Number(n)),
        );
        // The last one may have been on its way when ping was ended.
        const expected = Array.from({ length: Number(sent) - 1 }, (_, index) => index + 1);
        return { sent: Number(sent), lost: expected.filter((n) => !answers.has(n)) };
      };
    }

    test('the first start of the daemon restarts nothing and loses none of their packets', async () => {
      const facts = () =>
        lab.docker('inspect', '-f', '{{.State.Pid}} {{.RestartCount}}', 'web', 'client', 'plain');
      const before = await facts();
      const streams = [
        await stream('client', await lab.address('web', 'stack')),
        await stream('client', '198.51.100.1'),
        await stream('plain', '198.51.100.1'),
        await stream('plain', await lab.address('plain', 'bridge')),
      ];
      await new Promise((resolve) => setTimeout(resolve, 500));
      await lab.host.startCalico();
      await lab.network('calico');
      await lab.server('app', '--net', 'calico');
      assert.ok(await lab.hostReaches(await lab.address('app', 'calico')));
      await lab.host.stopCalico();
      await lab.host.startCalico();
      for (const end of streams) {
        const { sent, lost } = await end();
        assert.ok(sent > 20, `${sent} sent`);
        assert.deepEqual(lost, []);
      }
      assert.equal(await facts(), before);
      assert.ok(await lab.reaches('client', 'web'));
    });

    test('a subnet of a bridge network is refused, and a bridge network made later inside an IP pool is shown', async () => {
      const [range] = (await lab.host.run(['ip', '-4', 'route'])).match(
        /172\.18\.\d+\.\d+\/16/,
      ) ?? [''];
      const refused = await lab.refused(
        ...words`network create --driver calico --ipam-driver calico-ipam --subnet ${range} same`,
      );
      assert.match(refused, /overlaps the network of interface br-/);
      assert.equal((await lab.calicoResult('status')).status, 0);
      await lab.docker('network', 'create', '--subnet', '10.65.3.0/24', 'later');
      const { status, stdout } = await lab.calicoResult('status');
      assert.equal(status, 1);
      assert.match(stdout, /FAIL {2}ranges: the network of interface br-\w+ \(10\.65\.3\.0\/24\)/);
      assert.match(stdout, /"default-address-pools": \[\{"base": /);
      await lab.docker('network', 'rm', 'later');
      assert.equal((await lab.calicoResult('status')).status, 0);
    });
  });
}
