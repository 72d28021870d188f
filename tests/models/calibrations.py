"""Published calibrations of the OCamCalib model, their numbers as they were published.

- sceneego: ``utils/fisheye/fisheye.calibration.json`` of SceneEgo's code (Wang et al., CVPR 2023)
- egorear: ``camera_front_left.json`` of EgoRear's code (Akada et al., ICCV 2025)
- unrealego: ``utils/fisheye_calibration_UEP.json`` of UnrealEgo's code (Akada et al., ECCV 2022)
- toolbox: ``calib_results.txt`` of the fisheye among the toolbox's sample images (Scaramuzza et al., 2006)
"""

SCENEEGO = {
    "size": [1280, 1024],
    "intrinsic": [[500, 0, 659.7087109684564, 0], [0, 500, 530.0556618148025, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    "imageCircleRadius": 512.0,
    "polynomialC2W": [
        *(-2.924126419694919e02, 0.0, 1.075613595858202e-03, 2.072664555244253e-07),
        *(4.493499097653669e-10, -1.192028310212584e-15, -1.822337421183959e-17),
    ],
    "polynomialW2C": [
        *(4.785893205484341e02, 3.503715828980770e02, 7.900065565120241e01, 6.228794005673283e01),
        *(3.264466851189552e01, 1.568380500967838e01, 7.766879336977007e00, 2.190791369989537e00),
        *(-1.084229689289942e-01, -1.903842667463734e-01, -2.776267870029922e-02),
    ],
    "affine": [9.997488697329212e-01, -2.240239372797548e-04, 3.318272123957599e-04],
}

EGOREAR = {
    "size": [872, 872],
    "image_center": [426.391953, 442.934625],
    "imageCircleRadius": 436,
    "polynomialC2W": [-2.787474e02, 0.0, 1.094497e-03, 1.774048e-07, 6.569800e-10],
    "polynomialW2C": [460.338573, 334.319389, 66.308739, 52.536031, 28.965735, 11.448555, 3.534604, 0.641935],
    "affine": [1.000199, -0.000043, -0.000066],
}

UNREALEGO = {
    "size": [1024, 1024],
    "image_center": [511.1183388444314, 510.8730105600536],
    "imageCircleRadius": 512,
    "polynomialC2W": [
        *(-516.7691300636768, 0, 0.001827567433476, -0.000009458375642153957),
        *(4.460350926140045e-8, -9.434841474792276e-11, 8.099831344095236e-14),
    ],
    "polynomialW2C": [
        *(541.084422, 133.996745, -53.833198, 60.96083, -24.78051, 12.451492, -30.240511, 26.90122, 116.38499),
        *(-133.991117, -141.904687, 184.05592, 107.45616, -125.552875, -55.66342, 44.209519, 18.234651),
        *(-6.410899, -2.737066),
    ],
    "affine": [0.999997845608931, -0.00003641214346960503, -0.0000492182252254407],
}

TOOLBOX = """#polynomial coefficients for the DIRECT mapping function

5 -5.517655e+002 0.000000e+000 8.372454e-004 -6.474789e-007 1.235631e-009

#polynomial coefficients for the inverse mapping function

8 730.949123 315.876984 -177.960849 -352.468231 -678.144608 -615.917273 -262.086205 -42.961956

#center: "row" and "column", starting from 0 (C convention)

381.777786 505.480427

#affine parameters "c", "d", "e"

1.000000 0.000000 0.000000

#image size: "height" and "width"

768 1024
"""
