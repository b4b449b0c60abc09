"""Site names and patterns: from what an operator writes to modules of the model.

A site is ``module[#call][@output]``: the name as in ``named_modules()``; ``#2`` for the second time
the module runs in one forward pass; ``@1`` or ``@key`` for one entry of a tuple or dict output.
With ``module[#call]<[input]`` it is what goes into the module: ``mlp<`` is its first tensor,
``mlp<1`` its second argument and ``mlp<mask`` the one passed by that name. There is no colon in it:
``site:suffix`` is a view of a site, as decompositions name theirs.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import final

from torch import nn

from mad.errors import ConfigError
from mad.types import Site


@final
@dataclass(frozen=True)
class Address:
    """A site name taken apart; ``call`` 0 stands for the only call, ``output`` "" for the first.

    Of an input, ``output`` says which.
    """

    module: str
    call: int
    output: str
    is_input: bool = False

    @staticmethod
    def parse(site: Site) -> "Address":
        """Take a site name apart, or raise ConfigError."""
        if ":" in site:
            raise ConfigError(
                f"site {site!r}: ':' separates a site from the view of it in ledgers, so no site "
                "has one; name the site alone, or rename the module"
            )
        is_input = "<" in site
        rest, _, output = site.partition("<" if is_input else "@")
        module, hash_sign, call = rest.partition("#")
        if hash_sign and not (call.isdecimal() and int(call) >= 1):
            raise ConfigError(f"site {site!r}: after '#' stands the number of the call, from 1")
        return Address(module, int(call or 0), output, is_input)

    @property
    def end(self) -> tuple[str, bool]:
        """The module, and whether it is what goes in that counts."""
        return self.module, self.is_input


def resolve(module: nn.Module, patterns: Sequence[str]) -> tuple[Site, ...]:
    """Return the sites that match any pattern (``*`` and ``?`` as in globs), in model order.

    Raises:
        ConfigError: when a pattern matches no module, or one whose name cannot be a site.
    """
    names = [name for name, _ in module.named_modules() if name]
    found: dict[Site, int] = {}
    for pattern in patterns:
        address = Address.parse(pattern)
        matches = [name for name in names if fnmatchcase(name, address.module)]
        if not matches:
            close = difflib.get_close_matches(address.module, names, n=3) or names[:8]
            raise ConfigError(f"no module of the model matches site {pattern!r}; there is {close}")
        suffix = pattern[len(address.module) :]
        for name in matches:
            Address.parse(name + suffix)
            found[name + suffix] = names.index(name)
    return tuple(sorted(found, key=lambda site: (found[site], site)))
