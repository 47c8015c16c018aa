"""The public sets that `makellos data get` knows: where they lie and under which licence.

Every address and every checksum was found in a public source, which is named beside it; where no
checksum is published the entry says None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["CIFAR10_CLASSES", "PUBLIC_SETS", "Layout", "Licence", "PublicSet", "RemoteFile"]

Layout = Literal["mvtec_ad", "visa", "magnetic_tile", "mnist", "cifar10"]


@dataclass(frozen=True)
class Licence:
    """Hold what somebody has to agree to before a set is downloaded.

    Parameters
    ----------
    name : of the licence.
    terms : what it asks, in a sentence.
    address : where it can be read.
    """

    name: str
    terms: str
    address: str


@dataclass(frozen=True)
class RemoteFile:
    """Hold one file to download.

    Parameters
    ----------
    name : file name in the cache.
    address : where it is downloaded from.
    checksum : as `sha256:HEX` or `md5:HEX`, None where nobody has published one.
    checksum_source : who published the checksum.
    """

    name: str
    address: str
    checksum: str | None = None
    checksum_source: str = ""


@dataclass(frozen=True)
class PublicSet:
    """Hold one set of the catalogue.

    Parameters
    ----------
    name : what a user types; the part before `/` is the folder in the cache.
    files : all of them are needed, in the order that the layout expects.
    layout : how the files are turned into the MVTec AD layout.
    category : the category, or the class that is good.
    licence : what has to be accepted.
    homepage : where a person finds the download when an address has moved.
    instead : one file that serves as well, taken only where it lies in the cache already.
    """

    name: str
    files: tuple[RemoteFile, ...]
    layout: Layout
    category: str
    licence: Licence
    homepage: str
    instead: RemoteFile | None = None


# MVTec AD. Addresses: the links of the publisher's downloads page, as github.com/rmateusc/
# stable-datasets and others list them; the host has moved them before. SHA-256: a public script
# that lists all 15 archives for the publisher's former FTP server; github.com/guilhem0908/
# visual-quality-gate gives the same values for bottle, grid, metal_nut, screw and zipper at the
# present addresses.
_MVTEC_HOST = "https://www.mydrive.ch/shares"
_MVTEC_SOURCE = "public download scripts (fetch_mvtec.py of visual-quality-gate for five of them)"
_MVTEC_FILES = {
    "bottle": (
        "150452/132a93367fb17cdf968dfb5c4013f6e7/download/420937370-1629958698",
        "726512129cb3b1f47d4f6cd7c7fc9170db7fc209132249c788fec06029cb5dc3",
    ),
    "cable": (
        "150453/10f960e07fec2838b2cd512586633a32/download/420937413-1629958794",
        "1e3d59b80a6a8da5adf32fb0cf311c7b964cde146d6920aef9ca66380999a9cd",
    ),
    "capsule": (
        "150454/e0ce6dd74eb150f46c0d98131b3703f2/download/420937454-1629958872",
        "f6a41cb11f1589d552888fe9c43a1adcbcae15b70073e19093322f836d00a2b6",
    ),
    "carpet": (
        "150455/eac7fbce84d93a5094e13f391170eca4/download/420937484-1629959013",
        "d9dd5064515a20bd75cf24d223c570579141abd72388beef892780b74dbaa85d",
    ),
    "grid": (
        "150456/bb0b2e3dc804ccb8b4485e01f8e4493b/download/420937487-1629959044",
        "d94a9a651cbfaee22c94d06cf8fa8204a590c872362de0489eb34f1645328de8",
    ),
    "hazelnut": (
        "150457/51d49f65e84bdc100ff8035d7dd783ea/download/420937545-1629959162",
        "a7f4e7d65a60a235def7236a46fcb854d62e6c6917c16b1ec9cb4ff089d3b0da",
    ),
    "leather": (
        "150458/923030ce14e10a7d147e95d0f8885f6b/download/420937607-1629959262",
        "704ffa48b1dc2fc44824aa50442d9febc399dd92a5d6fd8156f8aa0373d15f24",
    ),
    "metal_nut": (
        "150459/c68856a21dca589b0f8ff6d4ee0f18f4/download/420937637-1629959294",
        "86e3c8e163ceb19146ad3ddc408e85cc34ae02e0da430e07a73bac6bbb48532a",
    ),
    "pill": (
        "150460/d4f1c04da67034ccc8d8b5fa3e73f244/download/420938129-1629960351",
        "ac6ce9ec4ec2a5d67c906d82147bd7431980cf00b78f25d63201a5f17e3a2038",
    ),
    "screw": (
        "150461/242f454cc6385e5693c4fd4b94567d1e/download/420938130-1629960389",
        "0a27a365a21e472d19b9fb48cb8e4002b49fabe083bff7f4c16fa57d78154f10",
    ),
    "tile": (
        "150462/5479f0fdc97bc6fa16eab0cb0cf0109f/download/420938133-1629960456",
        "392228153b96d0db9f179d3f7c2d63e131e907154883b57309fcbf798643173c",
    ),
    "toothbrush": (
        "150463/895a1a5fb84b958f07417784b060434b/download/420938134-1629960477",
        "fe72a34b4b0d074f84e844be7ef8c4f64f7f02f20e25f19c9e3b4a231c8bea77",
    ),
    "transistor": (
        "150464/99b8ea0332438d64fcc2475ee73f9c29/download/420938166-1629960554",
        "146b2166c35a1d0cf37ded091366ac01a50338b4ac704632f1239890eaca4449",
    ),
    "wood": (
        "150465/d5b4115b720cdb54d217e75636e6e374/download/420938383-1629960649",
        "3757297ac2a266072eb4f25a97f805f5b37fd583492b20bd709f310736c1ea47",
    ),
    "zipper": (
        "150466/bd155b557520edaf692d9bfdb915c24a/download/420938385-1629960680",
        "7ab46e0e195da145db30052baea3d3a5d14c5f0e710137c968e0423f02cb942d",
    ),
}
_MVTEC_WHOLE = RemoteFile(
    name="mvtec_anomaly_detection.tar.xz",
    address=(
        f"{_MVTEC_HOST}/150996/b52ecdcbf521176e9db9c731f2304b27/download/"
        "420938113-1629960298/mvtec_anomaly_detection.tar.xz"
    ),
    checksum="sha256:cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
    checksum_source="anomalib (mvtecad.py)",
)
_MVTEC_LICENCE = Licence(
    name="CC BY-NC-SA 4.0",
    terms=(
        "non-commercial use only; name the authors (Bergmann et al., MVTec Software GmbH); pass "
        "changed versions on under the same licence"
    ),
    address="https://creativecommons.org/licenses/by-nc-sa/4.0/",
)

# VisA. Address: github.com/amazon-science/spot-diff and the registry of open data; licence: the
# repository's README. The archive holds the official split, split_csv/1cls.csv.
_VISA_CATEGORIES = (
    "candle",
    "capsules",
    "cashew",
    "chewinggum",
    "fryum",
    "macaroni1",
    "macaroni2",
    "pcb1",
    "pcb2",
    "pcb3",
    "pcb4",
    "pipe_fryum",
)
_VISA_FILE = RemoteFile(
    name="VisA_20220922.tar",
    address="https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
    checksum="sha256:2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
    checksum_source="anomalib (visa.py)",
)
_VISA_LICENCE = Licence(
    name="CC BY 4.0",
    terms="any use, also commercial; name the authors (Zou et al., ECCV 2022) and say what changed",
    address="https://creativecommons.org/licenses/by/4.0/",
)

# Magnetic tile. A commit is pinned: a branch would change under the checksum. GitHub makes the
# archive on demand and does not promise that its bytes stay the same.
_TILE_HOME = "https://github.com/abin24/Magnetic-tile-defect-datasets."
_TILE_FILE = RemoteFile(
    name="magnetic_tile.zip",
    address=f"{_TILE_HOME}/archive/cc4eb530b57b9cb7225bf76023873043ffd50655.zip",
    checksum="sha256:592b050953d1de4ffa538b93b6b91aee7268d8e59b73d4d9c92cfce187d7ce66",
    checksum_source="github.com/NVIDIA/paidf-anomalygen (prepare_magnetic_tile_defect.py)",
)
_TILE_LICENCE = Licence(
    name="no formal licence",
    terms=(
        "the authors welcome the use of the set and ask that research cites Huang, Qiu, Yuan: "
        "Surface defect saliency of magnetic tile; other rights are theirs"
    ),
    address=_TILE_HOME,
)

# MNIST. Address: the mirror that torchvision downloads from; SHA-256: torchvision's prototype
# datasets, for the files of yann.lecun.com; licence: the documentation of Keras.
_MNIST_HOST = "https://ossci-datasets.s3.amazonaws.com/mnist"
_MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}
_MNIST_LICENCE = Licence(
    name="CC BY-SA 3.0",
    terms=(
        "any use; name the authors (LeCun, Cortes, Burges); pass changed versions on under the "
        "same licence"
    ),
    address="https://creativecommons.org/licenses/by-sa/3.0/",
)

# CIFAR-10, binary version: the Python version is a pickle. SHA-256: MLDatasets.jl; the authors'
# page publishes MD5 c32a1d4ab5d03f1284b67883e8d87530 of the same file.
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_CIFAR_HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"
_CIFAR_FILE = RemoteFile(
    name="cifar-10-binary.tar.gz",
    address="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    checksum="sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    checksum_source="MLDatasets.jl (CIFAR10.jl)",
)
_CIFAR_LICENCE = Licence(
    name="no formal licence",
    terms=(
        "the authors ask that use cites Krizhevsky: Learning Multiple Layers of Features from "
        "Tiny Images, 2009; the pictures were collected from the web and keep their rights"
    ),
    address=_CIFAR_HOME,
)


def _mvtec(category: str) -> PublicSet:
    share, sha256 = _MVTEC_FILES[category]
    name = f"{category}.tar.xz"
    file = RemoteFile(
        name=name,
        address=f"{_MVTEC_HOST}/{share}/{name}",
        checksum=f"sha256:{sha256}",
        checksum_source=_MVTEC_SOURCE,
    )
    return PublicSet(
        name=f"mvtec_ad/{category}",
        files=(file,),
        layout="mvtec_ad",
        category=category,
        licence=_MVTEC_LICENCE,
        homepage="https://www.mvtec.com/company/research/datasets/mvtec-ad/downloads",
        instead=_MVTEC_WHOLE,
    )


def _visa(category: str) -> PublicSet:
    return PublicSet(
        name=f"visa/{category}",
        files=(_VISA_FILE,),
        layout="visa",
        category=category,
        licence=_VISA_LICENCE,
        homepage="https://github.com/amazon-science/spot-diff",
    )


def _mnist(digit: str) -> PublicSet:
    files = tuple(
        RemoteFile(
            name=name,
            address=f"{_MNIST_HOST}/{name}",
            checksum=f"sha256:{sha256}",
            checksum_source="torchvision (prototype datasets, mnist.py)",
        )
        for name, sha256 in _MNIST_SHA256.items()
    )
    return PublicSet(
        name=f"mnist/{digit}",
        files=files,
        layout="mnist",
        category=digit,
        licence=_MNIST_LICENCE,
        homepage="http://yann.lecun.com/exdb/mnist/",
    )


def _cifar10(class_name: str) -> PublicSet:
    return PublicSet(
        name=f"cifar10/{class_name}",
        files=(_CIFAR_FILE,),
        layout="cifar10",
        category=class_name,
        licence=_CIFAR_LICENCE,
        homepage=_CIFAR_HOME,
    )


_MAGNETIC_TILE = PublicSet(
    name="magnetic_tile",
    files=(_TILE_FILE,),
    layout="magnetic_tile",
    category="",
    licence=_TILE_LICENCE,
    homepage=_TILE_HOME,
)

PUBLIC_SETS: Mapping[str, PublicSet] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            *map(_mvtec, _MVTEC_FILES),
            *map(_visa, _VISA_CATEGORIES),
            _MAGNETIC_TILE,
            *map(_mnist, map(str, range(10))),
            *map(_cifar10, CIFAR10_CLASSES),
        )
    }
)
