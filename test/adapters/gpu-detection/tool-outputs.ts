/** Outputs in the documented formats of the tools, written for these tests: machines that do not exist. */

export const nvidiaTwoCards = `0, GPU-6d1f4c1e-0f52-4ad1-9b52-3f6cd0b1a001, 00000000:01:00.0, 24564, 312, 8.6, Default, [N/A], NVIDIA RTX A5500
1, GPU-6d1f4c1e-0f52-4ad1-9b52-3f6cd0b1a002, 00000000:41:00.0, 4094, 5, 8.6, Default, [N/A], NVIDIA RTX A400
`;

export const nvidiaMig = `0, GPU-aa000000-0000-4000-8000-000000000001, 00000000:17:00.0, 81920, 87, 8.0, Default, Enabled, NVIDIA A100-SXM4-80GB
1, GPU-aa000000-0000-4000-8000-000000000002, 00000000:65:00.0, 81920, 0, 8.0, Exclusive_Process, Disabled, NVIDIA A100-SXM4-80GB
2, GPU-aa000000-0000-4000-8000-000000000003, 00000000:CA:00.0, 81920, 0, 8.0, Prohibited, Disabled, NVIDIA A100-SXM4-80GB
`;

export const nvidiaMigListing = `GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-aa000000-0000-4000-8000-000000000001)
  MIG 3g.40gb     Device  0: (UUID: MIG-1b000000-0000-5000-8000-000000000001)
  MIG 2g.20gb     Device  1: (UUID: MIG-1b000000-0000-5000-8000-000000000002)
  MIG 1g.10gb+me  Device  2: (UUID: MIG-1b000000-0000-5000-8000-000000000003)
GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-aa000000-0000-4000-8000-000000000002)
GPU 2: NVIDIA A100-SXM4-80GB (UUID: GPU-aa000000-0000-4000-8000-000000000003)
`;

export const nvidiaUnreachable =
  "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.\n\n";

export const rocmTwoCards = `WARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status

{"card0": {"Device Name": "Navi 31 [Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M]", "Device ID": "0x744c", "Device Rev": "0xc8", "Subsystem ID": "0x0e3b", "GUID": "11223", "Unique ID": "0x5e1d2c3b4a596877", "PCI Bus": "0000:03:00.0", "VRAM Total Memory (B)": "25753026560", "VRAM Total Used Memory (B)": "1073741824", "GTT Total Memory (B)": "33554432000", "GTT Total Used Memory (B)": "15925248", "Card Series": "Radeon RX 7900 XTX", "Card Model": "0x744c", "Card Vendor": "Advanced Micro Devices, Inc. [AMD/ATI]", "Card SKU": "D70701", "Node ID": "1", "GFX Version": "gfx1100"}, "card1": {"Device ID": "0x1681", "Unique ID": "N/A", "PCI Bus": "0000:C4:00.0", "VRAM Total Memory (B)": "2147483648", "VRAM Total Used Memory (B)": "482263040", "GTT Total Memory (B)": "14680064000", "Card series": "Rembrandt [Radeon 680M]", "Card model": "0x1681", "GFX Version": "gfx1035"}, "system": {"Driver version": "6.8.5"}}
`;

export const amdStatic = `[
    {
        "gpu": 0,
        "asic": {
            "market_name": "AMD Instinct MI300X",
            "vendor_id": "0x1002",
            "vendor_name": "Advanced Micro Devices Inc. [AMD/ATI]",
            "device_id": "0x74a1",
            "rev_id": "0x00",
            "asic_serial": "0x8A11000000000001",
            "oam_id": 0,
            "num_compute_units": 304,
            "target_graphics_version": "gfx942"
        },
        "bus": { "bdf": "0000:05:00.0", "max_pcie_width": 16, "slot_type": "OAM" },
        "vram": { "type": "HBM3", "vendor": "N/A", "size": { "value": 196592, "unit": "MB" }, "bit_width": 8192 }
    },
    {
        "gpu": 1,
        "asic": { "market_name": "AMD Radeon Graphics", "device_id": "0x1586", "target_graphics_version": "gfx1151" },
        "bus": { "bdf": "0000:C5:00.0" },
        "vram": { "type": "LPDDR5", "size": "N/A" }
    }
]
`;

export const amdMetric = `{
    "gpu_data": [
        {
            "gpu": 0,
            "mem_usage": {
                "total_vram": { "value": 196592, "unit": "MB" },
                "used_vram": { "value": 284, "unit": "MB" },
                "total_gtt": { "value": 515587, "unit": "MB" }
            }
        },
        {
            "gpu": 1,
            "mem_usage": {
                "total_vram": { "value": 65536, "unit": "MB" },
                "used_vram": { "value": 1024, "unit": "MB" },
                "total_gtt": { "value": 31744, "unit": "MB" },
                "used_gtt": { "value": 20, "unit": "MB" }
            }
        }
    ]
}
`;

export const xpuDiscovery = `{
    "device_list": [
        {
            "device_function_type": "physical",
            "device_id": 0,
            "device_name": "Intel(R) Arc(TM) A770 Graphics",
            "device_type": "GPU",
            "drm_device": "/dev/dri/card1",
            "pci_bdf_address": "0000:03:00.0",
            "pci_device_id": "0x56a0",
            "uuid": "00000000-0000-0003-0000-000856a08086",
            "vendor_name": "Intel(R) Corporation"
        }
    ]
}
`;

export const xpuDevice = `{
    "device_id": 0,
    "device_name": "Intel(R) Arc(TM) A770 Graphics",
    "memory_free_size_byte": "16200000000",
    "memory_physical_size_byte": "17079205888",
    "pci_bdf_address": "0000:03:00.0",
    "pci_device_id": "0x56a0"
}
`;

export const xpuStats = `{
    "device_id": 0,
    "device_level": [
        { "metrics_type": "XPUM_STATS_POWER", "value": 38.5 },
        { "metrics_type": "XPUM_STATS_MEMORY_USED", "value": 61.75 }
    ]
}
`;

export const deviceTreeOfThor = 'NVIDIA Jetson AGX Thor Developer Kit\u0000';

export const meminfo = `MemTotal:       128834212 kB
MemFree:        97000000 kB
MemAvailable:   113105572 kB
Buffers:          512000 kB
`;
