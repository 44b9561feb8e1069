import { after, before, test } from 'node:test';
import { startCommandLine, type CommandLine } from '../../src/cli/command-line.fixture.ts';
import { endpointName } from '../../src/model/kinds/workload-endpoint.ts';
import { golden } from './golden.ts';

/** The commands of `calico-cnm policy` on a host with the containers of a Compose project. */

let cli: CommandLine;

before(async () => {
  cli = startCommandLine({ NODENAME: 'host-1' });
  await cli.write((draft) => {
    for (const service of ['app', 'db', 'report']) {
      const name = endpointName('host-1', service);
      draft.put('WorkloadEndpoint', `libnetwork/${name}`, {
        kind: 'WorkloadEndpoint',
        apiVersion: 'projectcalico.org/v3',
        metadata: {
          name,
          namespace: 'libnetwork',
          labels: {
            'projectcalico.org/namespace': 'libnetwork',
            'com.docker.compose.project': 'shop',
            'com.docker.compose.service': service,
            'com.docker.container.name': `shop-${service}-1`,
            'com.docker.network.name': 'shop_default',
          },
        },
        spec: {
          orchestrator: 'libnetwork',
          node: 'host-1',
          endpoint: service,
          workload: `shop-${service}-1`,
          containerID: service.repeat(10),
          profiles: [],
          interfaceName: `cali${service}`,
        },
      });
    }
  });
});
after(() => cli[Symbol.dispose]());

/** Runs commands as a shell reads them, but for the escape character. */
async function session(...commands: readonly string[]): Promise<string> {
  const parts: string[] = [];
  for (const command of commands) {
    const words = [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(
      ([, quoted, plain]) => quoted ?? plain ?? '',
    );
    const { status, out, error } = await cli.run(words);
    const ending = status === 0 ? '' : `(exit status ${status})\n`;
    parts.push(`# calico-cnm ${command}\n${out}${error}${ending}`);
  }
  return parts.join('\n');
}

test('policies are created, listed, shown and removed', async () => {
  golden(
    'policy',
    await session(
      'policy allow --to service=db --from service=app --port 5432',
      'policy allow --to service=db --from service=app --port 5432/tcp',
      'policy allow --from service=app --to service=db --port 5432 --order 10',
      'policy deny --from project=shop --to 192.168.0.0/16,fd00::/8',
      'policy isolate project=shop --network shop_default',
      'policy allow --from any --to service=web,team=a --port 80,8000-8010,53/udp -o yaml',
      'policy allow --from service=app --to all --icmp 8 --direction both --dry-run',
      'policy ls',
      'policy show allow-service-app-to-service-db-tcp-5432',
      'policy show isolate-project-shop-on-shop-default-4318d00b',
      'policy rm allow-service-app-to-service-db-tcp-5432 deny.project-shop-to-192-168-0-0-16-fd00-8-699cfc93',
      'policy ls',
    ),
  );
});

test('templates and their documents', async () => {
  golden(
    'policy-templates',
    await session(
      'policy template ls',
      'policy template show default-deny selector=project=shop direction=inbound order=5',
      'policy template show same-project project=My_Shop',
      'policy template show internet-only selector=service=app dns=192.0.2.53',
      'policy template show no-lan lan=192.168.0.0/16,fd00::/8 name=no-office',
      'policy template show dmz selector=service=web backend=service=app backend-ports=8080,9000-9010',
      'policy template show block-metadata',
      'policy template show dns-only',
      'policy template apply no-lan selector=service=app',
      'policy rm no-lan',
    ),
  );
});

test('invalid commands are rejected in one sentence', async () => {
  golden(
    'policy-rejected',
    await session(
      'policy allow',
      'policy allow --port 80',
      'policy allow --from 10.0.0.0/8 --to 10.0.0.1',
      'policy allow --from 10.0.0.0/8 --to service=db --direction outbound',
      'policy allow --from service=app --direction inbound',
      'policy allow --from any --to service=db --direction both',
      'policy allow --to service=db --to 10.0.0.1',
      'policy allow --to db',
      'policy allow --to service=',
      'policy allow --to 10.0.0.0/33',
      'policy allow --to 10.0.0.1/8',
      'policy allow --to "service=db" --from "a b=c"',
      'policy allow --to "team=a b"',
      'policy allow --to "has("',
      'policy allow --to service=db --port 0',
      'policy allow --to service=db --port 90-80',
      'policy allow --to service=db --port 80/icmp',
      'policy allow --to service=db --port 53/udp --proto tcp',
      'policy allow --to service=db --port 53 --proto icmp',
      'policy allow --to service=db --proto tpc',
      'policy allow --to service=db --icmp 8 --port 80',
      'policy allow --to service=db --icmp 8 --proto tcp',
      'policy allow --to service=db --icmp 255',
      'policy allow --to service=db --from fd00::/8 --icmp 8',
      'policy allow --to service=db --order first',
      'policy allow --to service=db --tier missing',
      'policy allow --to service=db --direction up',
      'policy allow --to service=db --name My_Policy',
      'policy isolate 10.0.0.0/8',
      'policy isolate',
      'policy show missing',
      'policy rm missing',
      'policy paint',
      'policy template show paint',
      'policy template apply dmz',
      'policy template apply same-project shop',
      'policy template apply no-lan colour=red',
      'policy template apply no-lan lan=10.0.0.0/33',
      'policy template apply no-lan selector=app',
      'policy template apply no-lan selector=10.0.0.0/8',
      'policy template apply no-lan order=first',
      'policy template apply no-lan name=No_Lan',
      'policy template apply default-deny direction=up',
      'policy template apply dmz selector=service=a backend=service=b backend-ports=80/udp',
      'policy template apply dmz selector=service=a backend=service=b backend-ports=0',
    ),
  );
});
