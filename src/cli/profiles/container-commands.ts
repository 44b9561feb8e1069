import type { Command } from 'commander';
import type { Draft } from '../../datastore/writer.ts';
import { withChosenProfiles } from '../../driver/endpoints/endpoint-record.ts';
import { networkEntryId } from '../../driver/networks/networks.ts';
import { shareTags } from '../../driver/endpoints/shared-tags.ts';
import { CalicoError } from '../../errors/error.ts';
import { dockerNameOf, resourceNameFor } from '../../model/names.ts';
import {
  annotation,
  endpointTitle,
  isEndpointNamed,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import type { CliContext } from '../context.ts';
import { profileNamed } from './profile-plans.ts';
import { formatTable } from '../table.ts';

/** `container NAME profile …`: shows and changes the Profiles of a running container. */
export function addContainerCommands(program: Command, context: CliContext): void {
  program
    .command('container <name> [args...]')
    .description('show and edit the Profiles of a running container')
    .usage('[options] NAME [profile show|append|set|remove [PROFILE…]]')
    .option('--node <node>', 'host of the container, if the name is not unique')
    .addHelpText('after', help)
    .action(
      async (container: string, words: readonly string[], { node }: { readonly node?: string }) => {
        const change = parseChange(container, words);
        context.out(
          await context.withStore(({ write }) =>
            write((draft) => {
              const endpoints = endpointsOf(draft, container, node);
              if (change !== undefined) changeProfiles(draft, endpoints, change);
              return showProfiles(draft, endpoints);
            }),
          ),
        );
      },
    );
}

const help = `
  container app profile show             show its Profiles on each network; same as container app
  container app profile append db web    append to its Profiles
  container app profile set db           replace its Profiles; with no PROFILE, all traffic is dropped
  container app profile remove db

Changes apply immediately and last until the container stops. Labels set the Profiles at start.`;

interface Change {
  readonly verb: 'append' | 'set' | 'remove';
  /** Docker's names. */
  readonly profiles: readonly string[];
}

interface Found {
  readonly id: string;
  readonly endpoint: WorkloadEndpoint;
}

/** Returns `undefined` for a command that only shows. */
function parseChange(
  container: string,
  [noun = 'profile', verb, ...profiles]: readonly string[],
): Change | undefined {
  const isShow = verb === undefined || verb === 'show';
  if (noun === 'profile' && isShow && profiles.length === 0) return undefined;
  const needsProfiles = verb === 'append' || verb === 'remove';
  if (noun === 'profile' && (verb === 'set' || (needsProfiles && profiles.length > 0))) {
    return { verb, profiles };
  }
  throw new CalicoError('cli/bad-argument', {
    what: `container ${[container, noun, verb, ...profiles].filter(Boolean).join(' ')}`,
    why: 'invalid command; see calico-cnm container --help',
  });
}

/** Returns the endpoints of the container with this name. Throws if none exists, or on several hosts. */
function endpointsOf(draft: Draft, name: string, node: string | undefined): readonly Found[] {
  const found: Found[] = [];
  for (const [id, endpoint] of draft.entries('WorkloadEndpoint')) {
    const isOnNode = node === undefined || endpoint.spec.node === node;
    if (isOnNode && isEndpointNamed(endpoint, name)) found.push({ id, endpoint });
  }
  if (found.length === 0) throw new CalicoError('cli/no-such-container', { container: name });
  const nodes = [...new Set(found.map(({ endpoint }) => endpoint.spec.node))].toSorted();
  if (nodes.length > 1) {
    throw new CalicoError('cli/container-on-hosts', { container: name, nodes: nodes.join(', ') });
  }
  return found;
}

/** Writes the Profiles to every endpoint and shares the tags again, because a container is one identity. */
function changeProfiles(
  draft: Draft,
  endpoints: readonly Found[],
  { verb, profiles }: Change,
): void {
  // A deleted Profile can still be removed from a container.
  const names =
    verb === 'remove'
      ? profiles.flatMap((name) => [name, resourceNameFor(name)])
      : profiles.map((name) => profileNamed(draft, name).metadata.name);
  for (const { id, endpoint } of endpoints) {
    const why = annotation(endpoint, 'quarantine');
    if (why !== undefined) {
      const container = endpointTitle(endpoint);
      throw new CalicoError('cli/container-in-quarantine', { container, why });
    }
    const present = endpoint.spec.profiles ?? [];
    const chosen =
      verb === 'set'
        ? names
        : verb === 'append'
          ? [...present, ...names]
          : present.filter((name) => !names.includes(name));
    draft.put('WorkloadEndpoint', id, withChosenProfiles(endpoint, chosen));
  }
  shareTags(
    draft,
    endpoints.map(({ id }) => id),
  );
}

function showProfiles(draft: Draft, endpoints: readonly Found[]): string {
  return formatTable(
    ['container', 'network', 'address', 'profiles'],
    endpoints.map(({ id, endpoint }) => {
      const { spec } = draft.get('WorkloadEndpoint', id) ?? endpoint;
      const networkId = annotation(endpoint, 'network') ?? '';
      const network = draft.get('DockerNetwork', networkEntryId(spec.node, networkId));
      return [
        endpointTitle(endpoint),
        network?.name ?? networkId.slice(0, 12),
        (spec.ipNetworks ?? []).join(' '),
        (spec.profiles ?? []).map(dockerNameOf).join(',') || 'none (all traffic is dropped)',
      ];
    }),
  );
}
