import type { z } from 'zod';
import { felixFieldProblem, felixFields } from '../felix-fields.ts';
import { openObject, resource } from '../fields.ts';
import { nameColumn, resourceType, type Problem, type ResourceType } from '../resource-type.ts';
import { selectorProblem } from '../selector/problem.ts';

/** Newer releases have more fields: unknown ones are stored unchanged. */
const felixConfiguration = resource('FelixConfiguration', openObject(felixFields));

/** Settings of Felix on all hosts (`default`), on one (`node.<name>`), or on those that a selector says. */
export type FelixConfiguration = z.infer<typeof felixConfiguration>;

/** Returns the names of the FelixConfigurations of a node, the stronger first. */
export function configurationsOf(node: string): readonly [ofNode: string, ofAll: string] {
  return [`node.${node}`, 'default'];
}

export const felixConfigurationType: ResourceType<FelixConfiguration> = resourceType({
  kind: 'FelixConfiguration',
  plural: 'felixconfigurations',
  aliases: ['felixconfig'],
  meaning: 'Felix settings of all nodes (`default`) or of one (`node.<name>`)',
  fieldsWithoutEffect: ({ spec }) =>
    Object.keys(spec)
      .filter((field) => !fieldsWithEffect.has(field))
      .map((field) => `spec.${field}`),
  schema: felixConfiguration,
  columns: [nameColumn],
  validate: configurationProblem,
});

/** The other fields are Felix's alone. */
const fieldsWithEffect: ReadonlySet<string> = new Set([
  'ipipEnabled',
  'ipipMTU',
  'vxlanEnabled',
  'vxlanVNI',
  'vxlanPort',
  'vxlanMTU',
  'vxlanMTUV6',
  'externalNodesList',
  'failsafeInboundHostPorts',
  'failsafeOutboundHostPorts',
]);

/** Rules: felix/config and the API's patterns. */
function configurationProblem({ metadata, spec }: FelixConfiguration): Problem | undefined {
  const { name } = metadata;
  if (name !== 'default' && !name.startsWith('node.') && (spec.nodeSelector ?? '') === '') {
    return {
      field: 'metadata.name',
      why: 'must be default, or node. and the name of a Node, unless there is a nodeSelector',
    };
  }
  const why = selectorProblem(spec.nodeSelector);
  if (why !== undefined) return { field: 'spec.nodeSelector', why };
  return felixFieldProblem(spec);
}
