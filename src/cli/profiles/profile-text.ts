import type { Draft } from '../../datastore/writer.ts';
import { profileUsers } from '../../driver/networks/profile-users.ts';
import { printable } from '../../errors/printable.ts';
import { counted } from '../../model/counted.ts';
import { dockerNameOf } from '../../model/names.ts';
import type { PolicyRule } from '../../model/policy-rule.ts';
import { profileTags, type Profile } from '../../model/kinds/profile.ts';
import { ruleTags, ruleExpression } from './rule-expression.ts';
import { formatTable } from '../table.ts';

/** Output of the Profile commands. */

/** Returns a table of all Profiles: name, tags, number of rules and of containers. */
export function listProfiles(draft: Draft): string {
  return formatTable(
    ['name', 'tags', 'inbound', 'outbound', 'containers'],
    allProfiles(draft).map((profile) => {
      const { ingress = [], egress = [] } = profile.spec;
      const users = profileUsers(draft, profile.metadata.name);
      return [
        dockerNameOf(profile.metadata.name),
        profileTags(profile).map(dockerNameOf).join(','),
        counted(ingress.length, 'rule'),
        counted(egress.length, 'rule'),
        String(users.filter((user) => !user.startsWith('network ')).length),
      ];
    }),
  );
}

/** Returns every Profile with tags, rules and users. */
export function detailProfiles(draft: Draft): string {
  return allProfiles(draft)
    .map((profile) => profileText(draft, profile) + usersText(draft, profile))
    .join('\n');
}

/** Returns name, tags and numbered rules of one Profile. */
export function profileText(draft: Draft, profile: Profile): string {
  const others = Object.entries(profile.spec.labelsToApply ?? {})
    .filter(([, value]) => value !== '')
    .map(([key, value]) => `${key}=${value}`);
  return [
    `${shown(profile.metadata.name)}\n`,
    `  tags: ${profileTags(profile).map(shown).join(', ') || 'none'}\n`,
    others.length === 0 ? '' : `  labels: ${printable(others.join(', '))}\n`,
    rulesText(draft, profile),
  ].join('');
}

/** Returns the numbered rules of both directions, with a note on tags that no Profile has: they match nothing. */
export function rulesText(draft: Draft, { spec }: Profile): string {
  const given = new Set(allProfiles(draft).flatMap(profileTags));
  const numbered = (direction: string, rules: readonly PolicyRule[]) => [
    `  ${direction}:\n`,
    ...rules.map((rule, index) => {
      const missing = ruleTags(rule).filter((tag) => !given.has(tag));
      const note =
        missing.length === 0 ? '' : `   (no Profile has tag ${missing.map(shown).join(', ')})`;
      return `    ${index + 1}  ${printable(ruleExpression(rule))}${note}\n`;
    }),
    '    default: deny\n',
  ];
  return [
    ...numbered('inbound', spec.ingress ?? []),
    ...numbered('outbound', spec.egress ?? []),
  ].join('');
}

/** Returns Docker's name, printable on one line. */
function shown(name: string): string {
  return printable(dockerNameOf(name));
}

function usersText(draft: Draft, { metadata }: Profile): string {
  return `  used by: ${printable(profileUsers(draft, metadata.name).join(', ')) || 'none'}\n`;
}

function allProfiles(draft: Draft): readonly Profile[] {
  return [...draft.entries('Profile')]
    .map(([, profile]) => profile)
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}
