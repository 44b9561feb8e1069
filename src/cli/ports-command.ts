import type { Command } from 'commander';
import type { View } from '../cache/view.ts';
import { CalicoError } from '../errors/error.ts';
import { nodeName } from '../host/node-name.ts';
import { addressAndPort } from '../ip/address.ts';
import { namespaceOfNetwork } from '../model/kinds/docker-network.ts';
import { defaultNamespace } from '../model/namespaces.ts';
import { publishedPorts } from '../model/published-port.ts';
import {
  endpointIdsOf,
  endpointTitle,
  isEndpointNamed,
  type WorkloadEndpoint,
} from '../model/kinds/workload-endpoint.ts';
import type { CliContext } from './context.ts';
import { formatTable } from './table.ts';

/** `ports [NAME]`: like `docker port`, because a remote driver cannot report published ports to Docker. */
export function addPortsCommand(program: Command, context: CliContext): void {
  program
    .command('ports')
    .argument('[name]', 'container name or ID; default: all containers of this host')
    .description(
      'list published ports of containers on Calico networks (docker port cannot show them)',
    )
    .action(async (name: string | undefined) => {
      const node = nodeName(context.settings());
      const endpoints = await context.withStore(({ look }) =>
        look((view) =>
          namespacesOf(view, node)
            .flatMap((name) => [
              ...view.list('WorkloadEndpoint', endpointIdsOf(node, name)).values(),
            ])
            .map(({ value }) => value)
            .filter(({ spec }) => spec.node === node),
        ),
      );
      context.out(name === undefined ? formatAll(endpoints) : formatOne(endpoints, name));
    });
}

/** Returns the namespaces of the endpoints of a host: those of its networks. */
function namespacesOf(view: View, node: string): readonly string[] {
  const networks = [...view.list('DockerNetwork', `${node}/`).values()].map(({ value }) => value);
  const own = networks.filter((network) => network.node === node).map(namespaceOfNetwork);
  return [...new Set([defaultNamespace, ...own])];
}

function formatOne(endpoints: readonly WorkloadEndpoint[], name: string): string {
  const found = endpoints.filter((endpoint) => isEndpointNamed(endpoint, name));
  if (found.length === 0) {
    const why = 'no running container with this name on a Calico network of this host';
    throw new CalicoError('cli/bad-argument', { what: name, why });
  }
  return found
    .flatMap(lines)
    .map(({ from, to }) => `${to} -> ${from}\n`)
    .join('');
}

function formatAll(endpoints: readonly WorkloadEndpoint[]): string {
  const rows = endpoints
    .flatMap((endpoint) =>
      lines(endpoint).map(({ from, to }) => [endpointTitle(endpoint), `${from}->${to}`]),
    )
    .toSorted(([a = ''], [b = '']) => (a < b ? -1 : a > b ? 1 : 0));
  return formatTable(['container', 'published port'], rows);
}

/** Returns the published ports in the order of the container's ports. */
function lines(
  endpoint: WorkloadEndpoint,
): readonly { readonly from: string; readonly to: string }[] {
  return publishedPorts(endpoint)
    .toSorted((a, b) => a.port - b.port)
    .map(({ protocol, hostIp, hostPort, port }) => ({
      from: addressAndPort(hostIp, hostPort),
      to: `${port}/${protocol.toLowerCase()}`,
    }));
}
