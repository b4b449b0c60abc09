"""A TopK autoencoder of one site, put together from its weights."""

from jaxtyping import Float
from torch import Tensor

from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.frame import Frame
from mad.components.dictionaries.kinds.topk import TopKEncoder
from mad.components.dictionaries.look import Look
from mad.components.pooling import Pooling
from mad.types import Site


def topk_dictionary(  # noqa: PLR0913  # one argument a weight
    *,
    site: Site,
    pooling: Pooling,
    k: int,
    encoder: Float[Tensor, "coordinate component"],
    bias: Float[Tensor, " component"],
    decoder: Float[Tensor, "component coordinate"],
    centre: Float[Tensor, " coordinate"],
    scale: Float[Tensor, ""],
) -> Dictionary:
    """Return the dictionary of the ``k`` largest of ``relu(u @ encoder + bias)``.

    ``u`` is ``(x - centre) / scale``; the reconstruction is ``centre + scale * latents @ decoder``.
    """
    frame = Frame(centre, scale)
    return Dictionary(
        look=Look.at(site, pooling),
        encoder=TopKEncoder(encoder, bias, k),
        decoder=decoder,
        source=frame,
        target=frame,
        widths=(decoder.shape[1],),
    )
